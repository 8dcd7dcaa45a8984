"""Ask a run record questions: curves with intervals, paired gains, coverage, before and after.

Every mean is over prompts (`helpers.core.stats`). "The start" is the base policy's evaluation (the first step recorded,
0), "the end" the last one of the same split and decoding, so that a gain compares the same prompts.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

from helpers.core import stats
from helpers.core.errors import UserError
from helpers.core.stats import Interval
from helpers.rewards import score_row
from helpers.runs import stop_rules
from helpers.runs.load import Run, evaluated_steps
from helpers.runs.stop_rules import RuleStatus
from helpers.tasks import JSON_TASK, TASKS
from helpers.tasks.records import PAIRS_DIR, load_split

ALL = "all"
"""Stands for all tasks together, beside the names in `TASKS`."""


Rewards = Mapping[str, Mapping[str, float]]
"""Task -> record id -> reward of that prompt."""


@dataclass(frozen=True)
class Gain:
    """What changed between two evaluations of the same prompts: both means and the paired difference."""

    before: Interval
    after: Interval
    difference: Interval


@dataclass(frozen=True)
class Measured:
    """How a candidate's rewards were obtained; two candidates compare only where all of it is equal."""

    split: str
    mode: str
    version: str
    parser: str


def comparison_split(run: Run, mode: str = "sample") -> str | None:
    """The largest split that was evaluated at the start and again later; `test` is kept for the last word."""
    for split in ("eval", "eval_subset"):
        if len(evaluated_steps(run, split, mode)) > 1:
            return split
    return None


def end_split(run: Run, mode: str = "sample") -> str | None:
    """The largest split (not `test`) evaluated at the run's last planned step; `None` for an unfinished run."""
    return next((s for s in ("eval", "eval_subset") if run.max_steps in evaluated_steps(run, s, mode)), None)


def end_rewards(run: Run) -> dict[str, dict[str, float]]:
    """`prompt_rewards` of the end evaluation, sampled; empty for an unfinished run."""
    split = end_split(run)
    return prompt_rewards(run, run.max_steps, split) if split else {}


def prompt_rewards(run: Run, step: int, split: str, mode: str = "sample") -> dict[str, dict[str, float]]:
    """Task -> record id -> mean reward of that prompt's completions, at one evaluation."""
    rows = run.scored
    rows = rows[(rows["step"] == step) & (rows["split"] == split) & (rows["mode"] == mode)]
    return rewards_by_prompt(rows[["task", "record_id", "total"]].to_dict("records"))


def rewards_by_prompt(rows: Sequence[Mapping[Any, Any]]) -> dict[str, dict[str, float]]:
    """Task -> record id -> mean reward, of scored completions as eval.jsonl holds them.

    >>> rewards_by_prompt([{"task": "push", "record_id": "p1", "total": total} for total in (0.0, 1.0)])
    {'push': {'p1': 0.5}}
    """
    by_task = {task: [row for row in rows if row["task"] == task] for task in TASKS}
    return {
        task: stats.by_prompt([row["record_id"] for row in own], [row["total"] for row in own])
        for task, own in by_task.items()
        if own
    }


def rewards_under(run: Run, step: int, measured: Measured, pairs: Path = PAIRS_DIR) -> Rewards:
    """Task -> record id -> reward of one evaluation of a run, under any reward version.

    Completions that the record scores under another version are scored again. Raises `UserError` where the run has no
    such evaluation, or where `pairs` no longer holds the records it answered.
    """
    rows = run.evals
    rows = rows[(rows["step"] == step) & (rows["split"] == measured.split) & (rows["mode"] == measured.mode)]
    scored = rows[(rows["version"] == measured.version) & (rows["parser"] == measured.parser)]
    if rows.empty:
        raise UserError(f"{run.where}: no evaluation of {measured.split} in mode {measured.mode} at step {step}")
    return rewards_by_prompt(scored.to_dict("records") if len(scored) else _rescored(run, rows, measured, pairs))


def task_interval(rewards: Rewards, task: str = ALL, draws: int = stats.DRAWS) -> Interval:
    """The mean reward of one task, or of all prompts with each task resampled on its own, from `prompt_rewards`."""
    chosen = rewards if task == ALL else {task: rewards.get(task, {})}
    return stats.stratified_mean({name: list(values.values()) for name, values in chosen.items()}, draws=draws)


def curve(run: Run, task: str = ALL, split: str = "eval_subset", mode: str = "sample") -> pd.DataFrame:
    """Mean reward by step with its interval: columns mean, low, high, n.

    Where the record has no scored completions (eval.jsonl lost), the intervals logged in metrics.jsonl are used.
    """
    steps = evaluated_steps(run, split, mode)
    if not steps and split == "eval_subset" and mode == "sample":
        return _logged_curve(run, task)
    found = {step: task_interval(prompt_rewards(run, step, split, mode), task) for step in steps}
    rows = {step: vars(interval) for step, interval in found.items() if interval.n}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["mean", "low", "high", "n"]).rename_axis("step")


def gains(run: Run, split: str | None = None, mode: str = "sample", draws: int = stats.DRAWS) -> dict[str, Gain]:
    """The paired gain between start and end of a run, for all prompts (`ALL`) and each task.

    Empty where `split` (default: `comparison_split`) was not evaluated twice. Only prompts scored at both ends count.
    """
    split = split or comparison_split(run, mode)
    steps = evaluated_steps(run, split, mode) if split else []
    if split is None or len(steps) < 2:
        return {}
    before, after = (prompt_rewards(run, step, split, mode) for step in (steps[0], steps[-1]))
    return paired_gains(before, after, draws)


def paired_gains(before: Rewards, after: Rewards, draws: int = stats.DRAWS) -> dict[str, Gain]:
    """Gains between two evaluations given as `prompt_rewards`, over the prompts that both hold."""
    found = {task: paired_gain(before, after, task, draws) for task in (ALL, *before)}
    return {task: gain for task, gain in found.items() if gain.difference.n}


def paired_gain(before: Rewards, after: Rewards, task: str = ALL, draws: int = stats.DRAWS) -> Gain:
    """The gain of one task, or of all; no prompts in common give a gain over 0 prompts."""
    pairs = {
        name: [(old, after[name][record]) for record, old in before[name].items() if record in after.get(name, {})]
        for name in before
        if task in (ALL, name)
    }

    def mean(value: Callable[[float, float], float]) -> Interval:
        """What `value` makes of each prompt's two rewards, as a mean over the tasks' prompts."""
        strata = {name: [value(old, new) for old, new in found] for name, found in pairs.items()}
        return stats.stratified_mean(strata, draws=draws)

    return Gain(mean(lambda old, new: old), mean(lambda old, new: new), mean(lambda old, new: new - old))


def same_eval_set(a: Run, b: Run) -> bool:
    """Both ended on the same split of the same data: equal hashes of eval.jsonl where both are known, equal records."""
    hashes = [run.config.get("data", {}).get("eval.jsonl") for run in (a, b)]
    if all(hashes) and hashes[0] != hashes[1]:
        return False
    records = [{task: set(found) for task, found in end_rewards(run).items()} for run in (a, b)]
    return bool(records[0]) and records[0] == records[1]


def difference(a: Run, b: Run, task: str = ALL) -> tuple[Interval, str]:
    """How far the end of `b` lies above the end of `a`, and how that was compared: "paired" or "unpaired"."""
    before, after = end_rewards(a), end_rewards(b)
    if same_eval_set(a, b):
        return paired_gain(before, after, task).difference, "paired"
    old, new = (
        [value for name, found in rewards.items() if task in (ALL, name) for value in found.values()]
        for rewards in (before, after)
    )
    return stats.unpaired_difference(old, new), "unpaired"


def best_step(run: Run) -> int | None:
    """The step whose subset evaluation has the highest mean; its value is the best of many, hence optimistic."""
    found = curve(run)
    return None if found.empty else int(found["mean"].idxmax())


def coverage(run: Run) -> pd.DataFrame:
    """A row a task: records in the train split, prompts expected, prompts seen (last `train/prompts_seen/<task>`)."""
    planned = run.config.get("coverage", {})
    rows = {}
    for task in TASKS:
        seen = run.series(f"train/prompts_seen/{task}")
        plan = planned.get(task, {})
        rows[task] = {
            "records": plan.get("records", math.nan),
            "expected": plan.get("expected_prompts", math.nan),
            "seen": float(seen.iloc[-1]) if len(seen) else math.nan,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def repairs_by_step(run: Run, split: str = "eval_subset", mode: str = "sample") -> pd.DataFrame:
    """Share of extraction completions that needed each parser repair, by step."""
    rows = run.scored
    rows = rows[(rows["split"] == split) & (rows["mode"] == mode) & (rows["task"] == JSON_TASK)]
    single = rows.explode("repairs").dropna(subset=["repairs"])
    counts = single.groupby(["step", "repairs"]).size().unstack(fill_value=0)
    completions = rows.groupby("step").size()
    return counts.reindex(completions.index, fill_value=0).div(completions, axis=0)


def part_shares(run: Run, task: str, split: str = "eval_subset", mode: str = "sample") -> pd.DataFrame:
    """Mean of each reward part (a share from 0 to 1) of one task, by step."""
    rows = run.scored
    rows = rows[(rows["split"] == split) & (rows["mode"] == mode) & (rows["task"] == task)]
    parts = pd.DataFrame(list(rows["parts"]), index=rows["step"])
    return parts.groupby(level=0).mean()


def before_after(run: Run, task: str, n: int = 10, mode: str = "sample") -> pd.DataFrame:
    """`n` prompts of a task with the completion and reward at the start and the end, from largest loss to largest gain.

    The prompts are evenly spaced over all changes, so that failures appear as often as they happened.
    Columns: record_id, before, reward_before, after, reward_after.
    """
    split = comparison_split(run, mode)
    columns = ["record_id", "before", "reward_before", "after", "reward_after"]
    if split is None:
        return pd.DataFrame(columns=columns)
    steps = evaluated_steps(run, split, mode)
    first, last = (_first_samples(run, step, split, mode, task) for step in (steps[0], steps[-1]))
    joined = first.join(last, how="inner", lsuffix="_before", rsuffix="_after")
    joined["change"] = joined["total_after"] - joined["total_before"]
    ordered = joined.sort_values("change", kind="stable").reset_index()
    picked = ordered.iloc[_evenly_spaced(len(ordered), n)]
    picked = picked[["record_id", "completion_before", "total_before", "completion_after", "total_after"]]
    return picked.set_axis(columns, axis=1).reset_index(drop=True)


def watched_history(run: Run) -> list[dict[str, float]]:
    """The metric rows with what the stop rules also watch: repaired extraction answers and failed reward calls."""
    rows = run.scored
    rows = rows[(rows["split"] == "eval_subset") & (rows["mode"] == "sample") & (rows["task"] == JSON_TASK)]
    repaired = rows["repairs"].map(bool).groupby(rows["step"]).mean()
    added: list[dict[str, float]] = [
        {"step": int(step), "eval/repaired_share/extraction": float(share)} for step, share in repaired.items()
    ]
    failed = [int(event["step"]) for event in run.events if event.get("kind") == "reward_error"]
    added += [{"step": step, "train/reward_errors": float(count)} for count, step in enumerate(sorted(failed), 1)]
    return sorted([*run.history, *added], key=lambda row: row["step"])


def rule_settings(run: Run) -> dict[str, float]:
    """The fixed numbers that the stop rules need of a run: completion limit (tokens), beta, V4 extraction."""
    recipe = run.config.get("recipe", {})
    known = {"limit": recipe.get("max_completion_length"), "beta": recipe.get("beta")}
    baseline = run.series(stop_rules.BASELINE_METRIC)
    known["extraction_baseline"] = float(baseline.iloc[0]) if len(baseline) else None
    return {key: value for key, value in known.items() if value is not None}


def stop_statuses(run: Run, **settings: float) -> list[RuleStatus]:
    """What each stop rule says of the run as far as it went; `settings` replace those of `rule_settings`."""
    known: dict[str, Any] = {**rule_settings(run), **settings}
    return stop_rules.evaluate_rules(watched_history(run), run.max_steps, **known)


def _logged_curve(run: Run, task: str) -> pd.DataFrame:
    key = "eval/mean_reward" if task == ALL else f"eval/{task}"
    table = pd.DataFrame({"mean": run.series(key), "low": run.series(f"{key}_low"), "high": run.series(f"{key}_high")})
    return table.assign(n=math.nan).rename_axis("step")


def _first_samples(run: Run, step: int, split: str, mode: str, task: str) -> pd.DataFrame:
    rows = run.scored
    chosen = (rows["step"] == step) & (rows["split"] == split) & (rows["mode"] == mode) & (rows["task"] == task)
    return rows[chosen].sort_values("sample").groupby("record_id")[["completion", "total"]].first()


def _evenly_spaced(length: int, n: int) -> list[int]:
    """At most `n` positions of a list, first and last included.

    >>> _evenly_spaced(21, 3)
    [0, 10, 20]
    """
    if length <= n:
        return list(range(length))
    return [round(i * (length - 1) / (n - 1)) for i in range(n)] if n > 1 else [length // 2]


def _rescored(run: Run, rows: pd.DataFrame, measured: Measured, pairs: Path) -> list[dict[Any, Any]]:
    """The rows of an evaluation scored again; the record must have answered the very records that `pairs` hold."""
    split = measured.split.removesuffix("_subset")
    file = f"{split}.jsonl"
    known = run.config.get("data", {}).get(file)
    if known != sha256((pairs / file).read_bytes()).hexdigest():
        raise UserError(f"{run.where}: answered another {file} than {pairs / file}; it cannot be scored again with it")
    records = {record["id"]: record for record in load_split(split, pairs)}
    first = rows.drop_duplicates(["record_id", "sample"])
    return [
        score_row(records[record], completion, measured.version, measured.parser)
        for record, completion in zip(first["record_id"], first["completion"], strict=True)
    ]
