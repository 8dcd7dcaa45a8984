"""Parser effect and learning effect, told apart by scoring the same completions with three parsers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from helpers.core import stats
from helpers.core.stats import Interval
from helpers.parsing.baselines import PARSERS
from helpers.rewards import score
from helpers.runs import analysis
from helpers.runs.load import Run, evaluated_steps
from helpers.tasks import JSON_TASK


@dataclass(frozen=True)
class Effects:
    """How much of a run's change in extraction reward the parser made, and how much learning made.

    `means` maps each parser to its mean at the start and the end; `parser` is tolerant minus old on the base policy's
    own completions (`parser_changes`: prompt by prompt), `learning` is end minus start under the tolerant parser,
    `total` is their sum. `learning_as_v4` is end minus start under the old parser: where it is lower than `learning`,
    the policy came to rely on the tolerant one.
    """

    means: dict[str, tuple[Interval, Interval]]
    parser: Interval
    learning: Interval
    total: Interval
    learning_as_v4: Interval
    parser_changes: list[float] = field(default_factory=list, repr=False)


def effects(run: Run) -> Effects | None:
    """Parser effect and learning effect on extraction, by scoring the same completions with three parsers.

    Form only (reward v4.1). `None` where the record lacks extraction completions at the start or the end.
    """
    split = analysis.comparison_split(run)
    if split is None:
        return None
    steps = evaluated_steps(run, split)
    start, end = (_extractions(run, step, split) for step in (steps[0], steps[-1]))
    shared = [record for record in start if record in end]
    if not any(text for texts in (*start.values(), *end.values()) for text in texts):
        return None
    rewards = {
        parser: tuple([_parsed_reward(texts[record], parser) for record in shared] for texts in (start, end))
        for parser in PARSERS
    }
    old, new = rewards["regex"], rewards["tolerant"]
    return Effects(
        {name: (stats.bootstrap_mean(at[0]), stats.bootstrap_mean(at[1])) for name, at in rewards.items()},
        parser=stats.paired_difference(old[0], new[0]),
        learning=stats.paired_difference(new[0], new[1]),
        total=stats.paired_difference(old[0], new[1]),
        learning_as_v4=stats.paired_difference(old[0], old[1]),
        parser_changes=[after - before for before, after in zip(old[0], new[0], strict=True)],
    )


def parser_effect(completions: Sequence[tuple[str, dict[str, Any]]], before: str, after: str) -> Interval:
    """What the parser alone does to the extraction reward: the same (completion, record) pairs scored with both.

    The interval is a paired bootstrap over prompts (`stats.paired_difference`); a positive mean says that `after`
    (a name of `helpers.parsing.baselines.PARSERS`) pays more.
    """
    totals = {
        name: [score(JSON_TASK, text, record, "v4.1", PARSERS[name]).total for text, record in completions]
        for name in (before, after)
    }
    return stats.paired_difference(totals[before], totals[after])


def _extractions(run: Run, step: int, split: str) -> dict[str, list[str]]:
    rows = run.answers(split, step=step, task=JSON_TASK)
    return rows.groupby("record_id", sort=False)["completion"].agg(list).to_dict()


def _parsed_reward(completions: list[str], parser: str) -> float:
    totals = [score(JSON_TASK, text, {}, version="v4.1", parser=PARSERS[parser]).total for text in completions]
    return sum(totals) / len(totals)
