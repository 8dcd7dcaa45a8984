"""Comparisons of runs: differences of their ends, rewards under any version, and what notebooks 04a to 04c conclude."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

from helpers.core import stats
from helpers.core.errors import UserError
from helpers.core.stats import Interval
from helpers.recipes import fix_trials
from helpers.rewards import parser_of, score_row
from helpers.runs import analysis, decision
from helpers.runs.analysis import ALL, Rewards
from helpers.runs.decision import FLOORS, Decision, Fact
from helpers.runs.load import Run, evaluated_steps, load_run, runs_of, select
from helpers.tasks import TASKS
from helpers.tasks.records import PAIRS_DIR, load_split


@dataclass(frozen=True)
class Measured:
    """How rewards were obtained; two policies compare only where all of it is equal."""

    split: str
    mode: str
    version: str
    parser: str


def rewards_under(run: Run, step: int, measured: Measured, pairs: Path = PAIRS_DIR) -> Rewards:
    """Task -> record id -> reward of one evaluation of a run, under any reward version.

    Completions that the record scores under another version are scored again. Raises `UserError` where the run has no
    such evaluation, or where `pairs` no longer holds the records it answered.
    """
    rows = select(run.evals, step=step, split=measured.split, mode=measured.mode)
    if rows.empty:
        raise UserError(f"{run.where}: no evaluation of {measured.split} in mode {measured.mode} at step {step}")
    scored = select(rows, version=measured.version, parser=measured.parser)
    if scored.empty:
        return analysis.rewards_by_prompt(_rescored(run, rows, measured, pairs))
    return analysis.rewards_by_prompt(scored.to_dict("records"))


def _rescored(run: Run, rows: pd.DataFrame, measured: Measured, pairs: Path) -> list[dict[str, Any]]:
    """The rows of an evaluation scored again; the record must have answered the very records that `pairs` hold."""
    split = measured.split.removesuffix("_subset")
    path = pairs / f"{split}.jsonl"
    if run.data_hash(split) != sha256(path.read_bytes()).hexdigest():
        raise UserError(f"{run.where}: answered another {path.name} than {path}; it cannot be scored again with it")
    records = {record["id"]: record for record in load_split(split, pairs)}
    first = rows.drop_duplicates(["record_id", "sample"])
    return [
        score_row(records[record], completion, measured.version, measured.parser)
        for record, completion in zip(first["record_id"], first["completion"], strict=True)
    ]


def same_eval_set(a: Run, b: Run) -> bool:
    """Whether both ended on the same records of the same data (equal hashes where both are known)."""
    hashes = [run.data_hash("eval") for run in (a, b)]
    if all(hashes) and hashes[0] != hashes[1]:
        return False
    records = [{task: set(prompts) for task, prompts in analysis.end_rewards(run).items()} for run in (a, b)]
    return bool(records[0]) and records[0] == records[1]


def difference(a: Run, b: Run, task: str = ALL) -> tuple[Interval, str]:
    """How far the end of `b` lies above the end of `a`, and how that was compared: "paired" or "unpaired"."""
    before, after = analysis.end_rewards(a), analysis.end_rewards(b)
    if same_eval_set(a, b):
        return analysis.paired_gain(before, after, task).difference, "paired"
    old, new = (analysis.values_of(rewards, task) for rewards in (before, after))
    return stats.unpaired_difference(old, new), "unpaired"


@dataclass(frozen=True)
class Comparison:
    """Two runs' ends on the same prompts under one reward version, one task or all."""

    version: str
    task: str
    first: Interval
    second: Interval
    difference: Interval

    @property
    def verdict(self) -> str:
        """What the paired interval says."""
        if self.difference.low > 0:
            return "better"
        return "worse" if self.difference.high < 0 else "no difference shown"

    def row(self, first: str, second: str) -> dict[str, str]:
        """The comparison as text, its two sides under the names given."""
        return {
            "task": self.task,
            "reward version": self.version,
            first: str(self.first),
            second: str(self.second),
            "paired difference": self.difference.signed(),
            "verdict": self.verdict,
        }


def ends(first: Run, second: Run) -> list[Comparison]:
    """Both runs' last answers to the eval split, scored as v4.1 and v4.2 and paired by prompt: all, then each task.

    Both sides are scored by the same version, so that what a reward pays for is not mistaken for what a policy learned.
    """
    return _compared("eval", (first, first.max_steps), (second, second.max_steps))


def start_and_end(run: Run) -> list[Comparison]:
    """A run's first and last answers to the same prompts, compared as `ends` compares two runs'.

    Empty where no split was evaluated twice.
    """
    split = analysis.comparison_split(run)
    if split is None:
        return []
    steps = evaluated_steps(run, split)
    return _compared(split, (run, steps[0]), (run, steps[-1]))


def _compared(split: str, first: tuple[Run, int], second: tuple[Run, int]) -> list[Comparison]:
    """Two evaluations, each a run and a step, under v4.1 and v4.2."""
    comparisons = []
    for version in ("v4.1", "v4.2"):
        measured = Measured(split, "sample", version, parser_of(version))
        before, after = (rewards_under(run, step, measured) for run, step in (first, second))
        for task in (ALL, *TASKS):
            gain = analysis.paired_gain(before, after, task)
            comparisons.append(Comparison(version, task, gain.before, gain.after, gain.difference))
    return comparisons


def table(comparisons: Sequence[Comparison], first: str, second: str) -> pd.DataFrame:
    """Comparisons as a table: one row per task and reward version; empty without any."""
    rows = [comparison.row(first, second) for comparison in comparisons]
    return pd.DataFrame(rows).set_index(["task", "reward version"]) if rows else pd.DataFrame()


@dataclass(frozen=True)
class Stage:
    """One task at one point of a run: the share of completions whose object was read, and the reward, over prompts."""

    name: str
    mode: str
    parsed: Interval
    reward: Interval


def stage(run: Run, name: str, step: int, mode: str = "sample", task: str = "extraction") -> Stage:
    """How `task` stood in a run's evaluation of the whole eval split at `step`."""
    rows = run.answers("eval", mode, step=step, task=task)
    parsed = [float(parts.get("parsed", 0.0)) for parts in rows["parts"]]
    shares = (stats.by_prompt(rows["record_id"], values) for values in (parsed, rows["total"]))
    return Stage(name, mode, *(stats.bootstrap_mean(list(share.values())) for share in shares))


def stages(folder: Path, mode: str = "sample") -> list[Stage]:
    """Extraction along a warmed-up run: the base model, after the warm-up, after GRPO."""
    warm, run = load_run(folder / "warmup"), load_run(folder)
    learned = evaluated_steps(warm, "eval", mode)[-1]
    return [
        stage(warm, "base model", 0, mode),
        stage(warm, "after the warm-up", learned, mode),
        stage(run, "after GRPO", run.max_steps, mode),
    ]


def stage_rows(stages: Sequence[Stage]) -> list[dict[str, str]]:
    """Stages as rows of a table."""
    return [
        {
            "Stage": stage.name,
            "Decoding": stage.mode,
            "Objects read": str(stage.parsed),
            "Extraction reward": str(stage.reward),
        }
        for stage in stages
    ]


def after_warm_up(run: Run) -> tuple[str, Fact]:
    """The handoff's conclusion of scenario B, and the fact that it rests on.

    "If extraction still fails after the SFT warm-up", 0.5B cannot write structured output and 3.7B is next. It fails
    where the whole interval at the end lies under extraction's floor, and stands where it lies at or above it.
    """
    end = analysis.prompt_rewards(run, run.max_steps, "eval")
    fact = decision.fact("floor extraction", "extraction, against its floor", end, "extraction", FLOORS["extraction"])
    conclusions = {
        True: "extraction stands under v4.1: a model of this size writes the object once it has seen it; stay at 0.5B",
        False: "extraction still fails after the warm-up: skip 0.5B and go to 3.7B-Instruct (04a)",
        None: "undecided: the interval holds the floor; evaluate with more prompts before leaving 0.5B",
    }
    return conclusions[fact.holds], fact


def weakest_task(run: Run, decided: Decision) -> tuple[str, str]:
    """The task that scenario C would fix, and why: the decision's own, else the one with the lowest mean at the end."""
    if decided.task:
        return decided.task, f"03's decision names {decided.task}"
    end = analysis.end_rewards(run)
    task, close = analysis.lowest_task(end)
    ties = f"; {', '.join(close)} cannot be told apart from it" if close else ""
    mean = analysis.task_interval(end, task)
    return task, f"03's decision is {decided.scenario}, which names no task; {task} is lowest: {mean}{ties}"


def latest_finished(recipe: str) -> Run | None:
    """The latest finished run of a recipe: this session's, the reader's own, or a shipped one; `None` without any."""
    return next((run for run in map(load_run, runs_of(recipe)) if analysis.end_split(run) == "eval"), None)


def fix_rows(v41: Run, tried: Mapping[str, Run | None]) -> list[dict[str, str]]:
    """What each trial of a fix did to its own task, under both reward versions; one that was never run says so.

    `tried` has the runs by recipe. A run is compared with the V4.1 run beside it, which started from the same base
    policy, else with `v41`.
    """
    rows = []
    for task, trial in [(name, trial) for name in TASKS for trial in fix_trials(name)]:
        run = tried.get(trial.name)
        start = {"task": task, "recipe": trial.name, "reward version": "-", "run": run.where if run else "not run"}
        if run is None:
            rows.append(start | {"V4.1": "", "the fix": ""})
            continue
        own = (comparison for comparison in ends(_v41_beside(run) or v41, run) if comparison.task == task)
        rows += [start | comparison.row("V4.1", "the fix") for comparison in own]
    return rows


def beside_control(tried: Mapping[str, Run | None]) -> list[Comparison]:
    """What each task's fix adds to the task's larger share of prompts: on them alone, the fix minus V4.1.

    `tried` has the runs by recipe; a task whose fix or control was never run is left out.
    """
    rows = []
    for task in TASKS:
        runs = [tried.get(trial.name) for trial in fix_trials(task)[1:]]
        if runs and runs[0] and runs[1]:
            rows += [comparison for comparison in ends(runs[0], runs[1]) if comparison.task == task]
    return rows


def _v41_beside(run: Run) -> Run | None:
    """The V4.1 run of the same seed in the folder next to `run`: base policies differ between machines by rounding."""
    parent = run.path.parent
    beside = (load_run(folder) for folder in sorted(runs_of("v4.1", parent)) if folder.parent == parent)
    return next((v41 for v41 in beside if v41.config.get("seed") == run.config.get("seed")), None)
