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
    """Extraction rewards of one run's completions, told apart: parser, learning, and both together.

    `means` maps each parser to its mean at the start and the end; `parser` is old against tolerant on the base policy's
    own completions (`parser_changes`: prompt by prompt), `learning` is end against start under the tolerant parser,
    `total` is their sum.
    """

    means: dict[str, tuple[Interval, Interval]]
    parser: Interval
    learning: Interval
    total: Interval
    parser_changes: list[float] = field(default_factory=list, repr=False)


def effects(run: Run) -> Effects | None:
    """Parser effect and learning effect on extraction, by scoring the same completions with three parsers.

    Form only (reward v4.1). `None` where the record lacks extraction completions at the start or the end.
    """
    split = analysis.comparison_split(run)
    if split is None:
        return None
    steps = evaluated_steps(run, split)
    texts = [_extractions(run, step, split) for step in (steps[0], steps[-1])]
    shared = [record for record in texts[0] if record in texts[1]]
    if not any(text for by_record in texts for completions in by_record.values() for text in completions):
        return None
    rewards = {
        parser: tuple([_parsed_reward(found[record], parser) for record in shared] for found in texts)
        for parser in PARSERS
    }
    old, new = rewards["regex"], rewards["tolerant"]
    return Effects(
        {name: (stats.bootstrap_mean(start), stats.bootstrap_mean(end)) for name, (start, end) in rewards.items()},
        parser=stats.paired_difference(old[0], new[0]),
        learning=stats.paired_difference(new[0], new[1]),
        total=stats.paired_difference(old[0], new[1]),
        parser_changes=[after - before for before, after in zip(old[0], new[0], strict=True)],
    )


def parser_effect(
    completions: Sequence[tuple[str, dict[str, Any]]], before: str, after: str, version: str = "v4.1", seed: int = 0
) -> Interval:
    """What the parser alone does to the extraction reward: the same (completion, record) pairs scored with both.

    The interval is a paired bootstrap over prompts (`stats.paired_difference`); a positive mean says that `after`
    (a name of `helpers.parsing.baselines.PARSERS`) pays more.
    """
    totals = {
        name: [score(JSON_TASK, text, record, version, PARSERS[name]).total for text, record in completions]
        for name in (before, after)
    }
    return stats.paired_difference(totals[before], totals[after], seed=seed)


def _extractions(run: Run, step: int, split: str) -> dict[str, list[str]]:
    rows = run.scored
    chosen = rows["step"].eq(step) & rows["split"].eq(split) & rows["mode"].eq("sample") & rows["task"].eq(JSON_TASK)
    found: dict[str, list[str]] = {}
    for record, completion in zip(rows.loc[chosen, "record_id"], rows.loc[chosen, "completion"], strict=True):
        found.setdefault(record, []).append(completion)
    return found


def _parsed_reward(completions: list[str], parser: str) -> float:
    totals = [score(JSON_TASK, text, {}, version="v4.1", parser=PARSERS[parser]).total for text in completions]
    return sum(totals) / len(totals)
