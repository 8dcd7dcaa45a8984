"""Questions to one run record: curves with intervals, paired gains, coverage, before and after.

Every mean is over prompts (`helpers.core.stats`). "The start" is the base policy's evaluation (step 0), "the end" the
last one of the same split and decoding, so that a gain compares the same prompts.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pandas as pd

from helpers.core import stats
from helpers.core.stats import Interval
from helpers.runs import stop_rules
from helpers.runs.load import Run, evaluated_steps
from helpers.tasks import JSON_TASK, TASKS

ALL = "all"
"""Stands for all tasks together, beside the names in `TASKS`."""

ANSWERS = {"sample": "sampled", "greedy": "greedy"}
"""What tables call the two ways of answering an evaluation."""

Rewards = Mapping[str, Mapping[str, float]]
"""Task -> record id -> reward of that prompt."""
_SPLITS = ("eval", "eval_subset")


@dataclass(frozen=True)
class Gain:
    """What changed between two evaluations of the same prompts: both means and the paired difference.

    `changes` holds the difference of every prompt, tasks one after another.
    """

    before: Interval
    after: Interval
    difference: Interval
    changes: list[float] = field(default_factory=list, repr=False)


class CutShares(NamedTuple):
    """The share of answers cut at the completion limit, at the start and the end of a run.

    >>> print(CutShares(Interval(0.0, 0.0, 0.0, 65), Interval(0.92, 0.85, 0.984, 65)))
    0 → 92 % [85, 98]
    """

    start: Interval
    end: Interval

    def __str__(self) -> str:
        return f"{100 * self.start.mean:.0f} → {self.end.percent()}"


def comparison_split(run: Run, mode: str = "sample") -> str | None:
    """The largest split (not `test`) that was evaluated at the start and again later; `None` where there is none."""
    return next((split for split in _SPLITS if len(evaluated_steps(run, split, mode)) > 1), None)


def end_split(run: Run) -> str | None:
    """The largest split (not `test`) evaluated at the run's last planned step; `None` for an unfinished run."""
    return next((split for split in _SPLITS if run.max_steps in evaluated_steps(run, split)), None)


def end_rewards(run: Run) -> dict[str, dict[str, float]]:
    """The `prompt_rewards` of the end evaluation, sampled; empty for an unfinished run."""
    split = end_split(run)
    return prompt_rewards(run, run.max_steps, split) if split else {}


def prompt_rewards(run: Run, step: int, split: str, mode: str = "sample") -> dict[str, dict[str, float]]:
    """Task -> record id -> mean reward of that prompt's completions, at one evaluation."""
    rows = run.answers(split, mode, step=step)
    return rewards_by_prompt(rows[["task", "record_id", "total"]].to_dict("records"))


def rewards_by_prompt(rows: Sequence[Mapping[Any, Any]]) -> dict[str, dict[str, float]]:
    """Task -> record id -> mean reward, of scored completions as eval.jsonl holds them.

    >>> rewards_by_prompt([{"task": "push", "record_id": "p1", "total": total} for total in (0.0, 1.0)])
    {'push': {'p1': 0.5}}
    """
    rewards = {}
    for task in TASKS:
        own = [row for row in rows if row["task"] == task]
        if own:
            rewards[task] = stats.by_prompt([row["record_id"] for row in own], [row["total"] for row in own])
    return rewards


def values_of(rewards: Rewards, task: str = ALL) -> list[float]:
    """The reward of every prompt of one task, or of all tasks one after another."""
    return [value for name, prompts in rewards.items() if task in (ALL, name) for value in prompts.values()]


def task_interval(rewards: Rewards, task: str = ALL, draws: int = stats.DRAWS) -> Interval:
    """The mean reward of one task, or of all prompts with each task resampled on its own."""
    chosen = rewards if task == ALL else {task: rewards.get(task, {})}
    return stats.stratified_mean({name: list(values.values()) for name, values in chosen.items()}, draws=draws)


def lowest_task(rewards: Rewards) -> tuple[str, list[str]]:
    """The task with the lowest mean reward, and the tasks whose lead over it has an interval that holds 0."""
    values = {task: list(prompts.values()) for task, prompts in rewards.items()}
    lowest, *others = sorted(values, key=lambda task: sum(values[task]) / len(values[task]))
    return lowest, [task for task in others if stats.unpaired_difference(values[lowest], values[task]).low <= 0]


def curve(run: Run, task: str = ALL) -> pd.DataFrame:
    """Mean reward of the subset by step with its interval: columns mean, low, high, n.

    Where the record has no scored completions (eval.jsonl lost), the intervals logged in metrics.jsonl are used.
    """
    steps = evaluated_steps(run, "eval_subset")
    if not steps:
        key = "eval/mean_reward" if task == ALL else f"eval/{task}"
        columns = {"mean": key, "low": f"{key}_low", "high": f"{key}_high"}
        logged = pd.DataFrame({column: run.series(metric) for column, metric in columns.items()})
        return logged.assign(n=math.nan).rename_axis("step")
    intervals = {step: task_interval(prompt_rewards(run, step, "eval_subset"), task) for step in steps}
    rows = {step: vars(interval) for step, interval in intervals.items() if interval.n}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["mean", "low", "high", "n"]).rename_axis("step")


def gains(run: Run, split: str | None = None, mode: str = "sample") -> dict[str, Gain]:
    """The paired gain between start and end of a run, for all prompts (`ALL`) and each task.

    Empty where `split` (default: `comparison_split`) was not evaluated twice. Only prompts scored at both ends count.
    """
    split = split or comparison_split(run, mode) or ""
    steps = evaluated_steps(run, split, mode)
    if len(steps) < 2:
        return {}
    before, after = (prompt_rewards(run, step, split, mode) for step in (steps[0], steps[-1]))
    return paired_gains(before, after)


def paired_gains(before: Rewards, after: Rewards) -> dict[str, Gain]:
    """Gains between two evaluations, for all prompts (`ALL`) and each task, over the prompts that both hold."""
    by_task = {task: paired_gain(before, after, task) for task in (ALL, *before)}
    return {task: gain for task, gain in by_task.items() if gain.difference.n}


def paired_gain(before: Rewards, after: Rewards, task: str = ALL) -> Gain:
    """The gain of one task, or of all; no prompts in common give a gain over 0 prompts."""
    old: dict[str, list[float]] = {}
    new: dict[str, list[float]] = {}
    for name in before if task == ALL else [task]:
        shared = [record for record in before.get(name, {}) if record in after.get(name, {})]
        old[name], new[name] = ([rewards[name][record] for record in shared] for rewards in (before, after))
    changes = {name: [b - a for a, b in zip(old[name], new[name], strict=True)] for name in old}
    first, last, difference = (stats.stratified_mean(values) for values in (old, new, changes))
    return Gain(first, last, difference, [change for values in changes.values() for change in values])


def cut_by_prompt(run: Run, step: int, split: str, mode: str = "sample") -> dict[str, dict[str, float]]:
    """Task -> record id -> share of the prompt's completions that reached the completion limit, at one evaluation."""
    rows = run.answers(split, mode, step=step).groupby("task", sort=False)
    return {str(task): stats.by_prompt(own["record_id"], own["clipped"].astype(float)) for task, own in rows}


def cut_shares(run: Run, mode: str = "sample") -> dict[str, CutShares]:
    """The share of answers cut at the limit, at the start and the end of a run: for all prompts (`ALL`) and each task.

    Empty where no split was evaluated twice. A gain that comes with a growing share is one that a user does not see.
    """
    split = comparison_split(run, mode)
    if split is None:
        return {}
    steps = evaluated_steps(run, split, mode)
    start, end = (cut_by_prompt(run, step, split, mode) for step in (steps[0], steps[-1]))
    return {task: CutShares(task_interval(start, task), task_interval(end, task)) for task in (ALL, *start)}


def best_step(run: Run) -> int | None:
    """The step whose subset evaluation has the highest mean; its value is the best of many, hence optimistic."""
    means = curve(run)["mean"]
    return None if means.empty else int(means.idxmax())


def coverage(run: Run) -> pd.DataFrame:
    """One row per task: records in the train split, prompts expected, prompts seen (`train/prompts_seen/<task>`)."""
    rows = {}
    for task in TASKS:
        seen = run.series(f"train/prompts_seen/{task}")
        plan = run.config.get("coverage", {}).get(task, {})
        rows[task] = {
            "records": plan.get("records", math.nan),
            "expected": plan.get("expected_prompts", math.nan),
            "seen": float(seen.iloc[-1]) if len(seen) else math.nan,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def repairs_by_step(run: Run) -> pd.DataFrame:
    """Share of the subset's extraction completions that needed each parser repair, by step."""
    rows = run.answers("eval_subset", task=JSON_TASK)
    single = rows.explode("repairs").dropna(subset=["repairs"])
    counts = single.groupby(["step", "repairs"]).size().unstack(fill_value=0)
    completions = rows.groupby("step").size()
    return counts.reindex(completions.index, fill_value=0).div(completions, axis=0)


def part_shares(run: Run, task: str) -> pd.DataFrame:
    """Mean of each reward part (a share from 0 to 1) of one task in the subset, by step."""
    rows = run.answers("eval_subset", task=task)
    parts = pd.DataFrame(list(rows["parts"]), index=rows["step"])
    return parts.groupby(level=0).mean()


def before_after(run: Run, task: str, n: int = 10) -> pd.DataFrame:
    """`n` prompts of a task with the completion and reward at the start and the end, from largest loss to largest gain.

    The prompts are evenly spaced over all changes, so that failures appear as often as they happened.
    Columns: record_id, before, reward_before, after, reward_after.
    """
    split = comparison_split(run)
    columns = ["record_id", "before", "reward_before", "after", "reward_after"]
    if split is None:
        return pd.DataFrame(columns=columns)
    rows = run.answers(split, task=task).sort_values("sample")
    steps = evaluated_steps(run, split)
    first, last = (
        rows[rows["step"] == step].groupby("record_id")[["completion", "total"]].first()
        for step in (steps[0], steps[-1])
    )
    joined = first.join(last, how="inner", lsuffix="_before", rsuffix="_after")
    joined["change"] = joined["total_after"] - joined["total_before"]
    ordered = joined.sort_values("change", kind="stable").reset_index()
    picked = ordered.iloc[_evenly_spaced(len(ordered), n)].drop(columns="change")
    return picked.set_axis(columns, axis=1).reset_index(drop=True)


def rule_settings(run: Run) -> dict[str, Any]:
    """What the stop rules need to know of a run: completion limit (tokens), beta, V4 extraction, its one task if so."""
    recipe = run.config.get("recipe", {})
    baseline = run.series(stop_rules.BASELINE_METRIC)
    settings = {
        "limit": recipe.get("max_completion_length"),
        "beta": recipe.get("beta"),
        "extraction_baseline": float(baseline.iloc[0]) if len(baseline) else None,
        "only_task": recipe.get("only_task"),
    }
    return {key: value for key, value in settings.items() if value is not None}


def _evenly_spaced(length: int, n: int) -> list[int]:
    """At most `n` positions of a list, first and last included.

    >>> _evenly_spaced(21, 3)
    [0, 10, 20]
    """
    if length <= n:
        return list(range(length))
    return [round(i * (length - 1) / (n - 1)) for i in range(n)] if n > 1 else [length // 2]
