"""How far each parser can be trusted, on texts of known meaning and on completions."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from helpers.core.errors import UserError
from helpers.core.files import PROJECT_ROOT, read_jsonl
from helpers.parsing.completions import parse_completion
from helpers.parsing.repairs import REPAIRS, repair_class
from helpers.parsing.trials import PARSER_NAMES, Trial, run_trials

QUIRKS = PROJECT_ROOT / "data" / "parser_quirks.jsonl"
UNKNOWN = object()
"""The expected value of a completion whose meaning nobody wrote down."""

OUTCOMES = ("right", "wrong", "missed", "false accept", "exception", "timeout", "parsed", "not parsed")


@dataclass(frozen=True)
class Case:
    """A text to parse; `expected` is the object it holds, None where it holds none, or `UNKNOWN`."""

    id: str
    family: str
    text: str
    expected: Any = UNKNOWN


def quirk_cases(path: Path = QUIRKS) -> list[Case]:
    """The documented quirks of model output, each with the value a careful reader sees."""
    return [Case(row["id"], row["family"], row["text"], row["expected"]) for _, row in read_jsonl(path)]


def reference_cases(records: Iterable[dict[str, Any]]) -> list[Case]:
    """The reference answers of extraction records: every parser must read these."""
    return [
        Case(record["id"], "reference", record["reference"]["text"], record["reference"]["fields"])
        for record in records
        if record["task"] == "extraction"
    ]


def completion_cases(completions: Iterable[str]) -> list[Case]:
    """Completions of unknown meaning, numbered in order."""
    return [Case(f"completion-{number:04d}", "completion", text) for number, text in enumerate(completions, 1)]


def load_completions(path: Path) -> list[str]:
    """The completions of a JSON-lines file: each line an object with a `completion` (or `text`) string.

    A run's `eval.jsonl` is such a file; of its rows, those of other tasks than extraction are left out. Raises
    `UserError` naming the line without a completion, and where the file has none at all.
    """
    texts = []
    for number, row in read_jsonl(path):
        if row.get("task", "extraction") != "extraction":
            continue
        text = row.get("completion", row.get("text"))
        if not isinstance(text, str):
            raise UserError(f"{path}, line {number}: no string named 'completion' or 'text'; write one in each line")
        texts.append(text)
    if not texts:
        raise UserError(f"{path}: no extraction completion in it; each line is an object with a 'completion'")
    return texts


def same(one: Any, other: Any) -> bool:
    """Equality by value: 4 == 4.0, but True != 1; strings character for character; key order ignored.

    >>> same({"a": [4]}, {"a": [4.0]}), same({"a": 1}, {"a": True})
    (True, False)
    """
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def judge(trial: Trial, expected: Any) -> str:
    """One of `OUTCOMES`: an object is right or wrong, its absence right or missed; of unknown meaning, parsed or not.

    >>> judge(Trial("object", {"a": 1.2}), {"a": [1, 2]}), judge(Trial("rejected"), None)
    ('wrong', 'right')
    """
    if trial.outcome in ("exception", "timeout"):
        return trial.outcome
    if expected is UNKNOWN:
        return "parsed" if trial.outcome == "object" else "not parsed"
    if trial.outcome == "rejected":
        return "right" if expected is None else "missed"
    if expected is None:
        return "false accept"
    return "right" if same(trial.value, expected) else "wrong"


def audit(
    cases: Sequence[Case],
    parsers: Sequence[str] = PARSER_NAMES,
    limit: float = 2.0,
    on_parser: Callable[[str], None] | None = None,
) -> pd.DataFrame:
    """One row per case and parser: id, family, parser, `has_object`, outcome, microseconds, detail.

    Each parser runs in its own child process; a case that takes more than `limit` seconds is a timeout.
    """
    rows = []
    for parser in parsers:
        if on_parser:
            on_parser(parser)
        for case, trial in zip(cases, run_trials(parser, [case.text for case in cases], limit), strict=True):
            rows.append((case.id, case.family, parser, case.expected is not None, judge(trial, case.expected),
                         trial.microseconds, trial.detail))  # fmt: skip
    return pd.DataFrame(rows, columns=["id", "family", "parser", "has_object", "outcome", "microseconds", "detail"])


def summary(results: pd.DataFrame) -> pd.DataFrame:
    """One row per parser: how many cases of each outcome, and the median microseconds per text that it finished."""
    parsers = list(dict.fromkeys(results["parser"]))
    counts = pd.crosstab(results["parser"], results["outcome"]).reindex(index=parsers)
    counts = counts[[outcome for outcome in OUTCOMES if outcome in counts]]
    counts["median µs"] = results.groupby("parser")["microseconds"].median().round(1)
    return counts


def by_family(results: pd.DataFrame, outcomes: Sequence[str] = ("right",)) -> pd.DataFrame:
    """Families down, parsers across: the share of the family's cases whose outcome is one of `outcomes`."""
    chosen = results.assign(share=results["outcome"].isin(outcomes).astype(float))
    table = chosen.pivot_table(index="family", columns="parser", values="share", sort=False)
    return table[list(dict.fromkeys(results["parser"]))]


def newly_parsed(results: pd.DataFrame, before: str = "regex", after: str = "tolerant") -> list[str]:
    """The ids from which `after` gets an object (the right one, where that is known) and `before` does not."""
    read = results[results["has_object"] & results["outcome"].isin(["right", "parsed"])]
    ids = {parser: set(read.loc[read["parser"] == parser, "id"]) for parser in (before, after)}
    return [name for name in dict.fromkeys(results["id"]) if name in ids[after] - ids[before]]


def repairs_seen(texts: Iterable[str]) -> pd.DataFrame:
    """The repairs our parser reports on `texts`: name, class, in how many texts; `.attrs["classes"]` counts texts."""
    parsed = [result for result in map(parse_completion, texts) if result.value is not None]
    counts = Counter(name for result in parsed for name in result.repairs)
    classes = Counter(repair_class(result.repairs) for result in parsed)
    rows = [(name, REPAIRS[name], count) for name, count in counts.most_common()]
    table = pd.DataFrame(rows, columns=["repair", "class", "texts"])
    table.attrs["classes"] = dict(classes)
    return table
