"""Leak checks: nothing of eval or test may be in train, neither exactly nor nearly."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from helpers.tasks.pairs.drafts import identity
from helpers.tasks.spec import ROWS, user_text

NEAR = 0.8  # share of a prompt's 5-grams in one train prompt above which the two are near-duplicates
NEAR_TASKS = tuple(row.name for row in ROWS if row.leave_out_near_duplicates)
_SIZE = 5


def five_grams(text: str) -> frozenset[tuple[str, ...]]:
    """The distinct runs of five words of a text (all its words as one where it has fewer).

    >>> sorted(five_grams("a b c d e f"))
    [('a', 'b', 'c', 'd', 'e'), ('b', 'c', 'd', 'e', 'f')]
    """
    words = text.lower().split()
    return frozenset(tuple(words[start : start + _SIZE]) for start in range(max(1, len(words) - _SIZE + 1)))


class NearDuplicates:
    """Prompts by their 5-grams, to find which of them shares most with another."""

    def __init__(self) -> None:
        self._sizes: list[int] = []
        self._places: dict[tuple[str, ...], list[int]] = {}

    def add(self, text: str) -> None:
        """Remember a prompt."""
        grams = five_grams(text)
        for gram in grams:
            self._places.setdefault(gram, []).append(len(self._sizes))
        self._sizes.append(len(grams))

    def overlap(self, text: str) -> float:
        """The largest share of 5-grams, of this text or of a remembered one, that the two have in common."""
        grams = five_grams(text)
        shared = Counter(place for gram in grams for place in self._places.get(gram, ()))
        return max((count / min(len(grams), self._sizes[place]) for place, count in shared.items()), default=0.0)


def find_leaks(train: Iterable[dict[str, Any]], held_out: Sequence[dict[str, Any]]) -> list[str]:
    """One line for each held-out record that train holds, in whole (prompt, source) or nearly (5-grams)."""
    seen: dict[Any, str] = {}
    near = {task: NearDuplicates() for task in NEAR_TASKS}
    for record in train:
        for key in identity(record):
            seen[key] = record["id"]
        if record["task"] in near:
            near[record["task"]].add(user_text(record["prompt"]))
    problems = []
    for record in held_out:
        problems += [f"{record['id']} repeats {seen[key]}: {key[0]}" for key in identity(record) if key in seen]
        task = record["task"]
        share = near[task].overlap(user_text(record["prompt"])) if task in near else 0.0
        if share > NEAR:
            problems.append(f"{record['id']} shares {share:.0%} of its 5-grams with a train prompt")
    return problems
