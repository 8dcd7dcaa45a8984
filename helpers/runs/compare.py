"""What the branch notebooks 04a to 04c ask of run records: stages, verdicts, and comparisons under two rewards."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from helpers.core import stats
from helpers.core.stats import Interval
from helpers.recipes import parser_of
from helpers.runs import analysis, decision
from helpers.runs.analysis import ALL, Measured, Rewards
from helpers.runs.decision import FLOORS, Decision, Fact
from helpers.runs.load import Run, evaluated_steps, find_runs, load_run, read_config, run_roots
from helpers.runs.record import CONFIG
from helpers.tasks import TASKS
from helpers.tasks.records import PAIRS_DIR


@dataclass(frozen=True)
class Stage:
    """One task at one point of a run: the share of completions whose object was read, and the reward, over prompts."""

    name: str
    mode: str
    parsed: Interval
    reward: Interval


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


def stage(run: Run, name: str, step: int, mode: str = "sample", task: str = "extraction") -> Stage:
    """How `task` stood in a run's evaluation of the whole eval split at `step`."""
    rows = run.scored
    chosen = rows[rows["step"].eq(step) & rows["split"].eq("eval") & rows["mode"].eq(mode) & rows["task"].eq(task)]
    parsed = [float(parts.get("parsed", 0.0)) for parts in chosen["parts"]]
    shares = (stats.by_prompt(chosen["record_id"], values) for values in (parsed, chosen["total"]))
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


def stage_rows(found: Sequence[Stage]) -> list[dict[str, str]]:
    """Stages as rows for a table."""
    return [
        {
            "Stage": stage.name,
            "Decoding": stage.mode,
            "Objects read": str(stage.parsed),
            "Extraction reward": str(stage.reward),
        }
        for stage in found
    ]


def after_warm_up(run: Run) -> tuple[str, Fact]:
    """The handoff's conclusion of scenario B, by rule, and the fact it rests on.

    "If extraction still fails after the SFT warm-up", 0.5B cannot write structured output and 3.7B is next. Fails: the
    whole interval at the end lies under extraction's floor (0.25); stands: the whole interval lies at or above it.
    """
    end = analysis.prompt_rewards(run, run.max_steps, "eval")
    floor = FLOORS["extraction"]
    found = decision.fact("floor extraction", "extraction, against its floor", end, "extraction", floor, stats.DRAWS)
    told = {
        True: "extraction stands: a model of this size can write the object once it has seen it; stay at 0.5B",
        False: "extraction still fails after the warm-up: skip 0.5B and go to 3.7B-Instruct (04a)",
        None: "undecided: the interval holds the floor; evaluate with more prompts before leaving 0.5B",
    }
    return told[found.holds], found


def weakest_task(run: Run, found: Decision) -> tuple[str, str]:
    """The task that scenario C would fix, and why: the decision's own, else the one with the lowest mean at the end."""
    if found.task:
        return found.task, f"03's decision names {found.task}"
    end = analysis.end_rewards(run)
    means = {task: analysis.task_interval(end, task) for task in TASKS if task in end}
    task = min(means, key=lambda name: means[name].mean)
    overlapping = [name for name in means if name != task and means[name].low <= means[task].high]
    sure = f"; {', '.join(overlapping)} cannot be told apart from it" if overlapping else ""
    return task, f"03's decision is {found.scenario}, which names no task; {task} is lowest: {means[task]}{sure}"


def ends(
    first: Run, second: Run, versions: Sequence[str] = ("v4.1", "v4.2"), mode: str = "sample", pairs: Path = PAIRS_DIR
) -> list[Comparison]:
    """Both runs' last answers to the eval split, scored again under each version, paired by prompt: all, then a task.

    One version for both sides: what a reward pays for is then never mistaken for what a policy learned.
    """
    found = []
    for version in versions:
        before, after = (_end_under(run, version, mode, pairs) for run in (first, second))
        for task in (ALL, *TASKS):
            gain = analysis.paired_gain(before, after, task)
            found.append(Comparison(version, task, gain.before, gain.after, gain.difference))
    return found


def table(found: Sequence[Comparison], first: str, second: str) -> pd.DataFrame:
    """Comparisons as a table: a row a task, its columns grouped by reward version."""
    rows = {
        (comparison.task, comparison.version): {
            first: str(comparison.first),
            second: str(comparison.second),
            "paired difference": comparison.difference.signed(),
            "verdict": comparison.verdict,
        }
        for comparison in found
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["task", "reward version"])


def find_fixed(recipe: str) -> Run | None:
    """The latest finished run of a recipe: this session's, the reader's own, or a shipped one; None where there is
    none."""
    folders = (folder for root in run_roots() for folder in find_runs(root))
    named = (folder for folder in folders if read_config(folder).get("recipe", {}).get("name") == recipe)
    return next((run for run in map(load_run, named) if analysis.end_split(run) == "eval"), None)


def fix_rows(v41: Run, fixed: Mapping[str, Run | None]) -> list[dict[str, str]]:
    """Each fix's effect on its own task, under both reward versions; a fix that was never run says so.

    A fix is compared with the V4.1 run that lies beside it, from the same base policy, else with `v41`.
    """
    rows = []
    for task, run in fixed.items():
        if run is None:
            rows.append({"task": task, "reward version": "-", "run": "not run", "V4.1": "", "the fix": ""})
            continue
        for found in ends(_v41_beside(run) or v41, run):
            if found.task == task:
                numbers = {"V4.1": str(found.first), "the fix": str(found.second)}
                verdict = {"paired difference": found.difference.signed(), "verdict": found.verdict}
                rows.append({"task": task, "reward version": found.version, "run": run.where} | numbers | verdict)
    return rows


def _v41_beside(run: Run) -> Run | None:
    """The V4.1 run of the same seed in the folder next to `run`: base policies differ between machines by rounding."""
    for folder in sorted(path for path in run.path.parent.iterdir() if (path / CONFIG).is_file()):
        config = read_config(folder)
        if (config.get("recipe", {}).get("name"), config.get("seed")) == ("v4.1", run.config.get("seed")):
            return load_run(folder)
    return None


def _end_under(run: Run, version: str, mode: str, pairs: Path) -> Rewards:
    return analysis.rewards_under(run, run.max_steps, Measured("eval", mode, version, parser_of(version)), pairs)
