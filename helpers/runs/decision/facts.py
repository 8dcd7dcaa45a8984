"""What a run is held against (`Reference`), and measured values against thresholds (`Fact`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from helpers import recipes
from helpers.core import stats
from helpers.core.errors import UserError
from helpers.core.stats import Interval
from helpers.runs import analysis
from helpers.runs.analysis import ALL, Rewards
from helpers.runs.load import Run, evaluated_steps, find_runs, load_run, read_config, run_roots
from helpers.runs.stop_rules import NEAR
from helpers.tasks import ROWS, TASKS

TARGET = 0.55
FLOORS: dict[str, float] = {row.name: row.floor for row in ROWS}
"""Under its floor a task lags (handoff, scenario C; it names none for push: the tree's 0.20 stands for any task)."""
MIN_PROMPTS = 10
"""A task with fewer prompts decides nothing: a bootstrap of so few, perhaps all equal, looks surer than it is."""
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Reference:
    """What a V4.1 run is held against. `rewards` holds V4's end evaluation prompt by prompt, where it is at hand."""

    name: str
    plateau: float
    baseline: float
    split: str = ""
    rewards: Rewards = field(default_factory=dict, repr=False)


HANDOFF = Reference("the handoff's V4 figures for the hub 0.5B model", plateau=0.476, baseline=0.17)


@dataclass(frozen=True)
class Fact:
    """One measured value against one threshold. `prompts` would settle an open one, if mean and spread stay."""

    name: str
    told: str
    interval: Interval
    threshold: float
    prompts: int | None = None

    @property
    def holds(self) -> bool | None:
        """The threshold is met, missed, or open (None)."""
        if self.interval.low >= self.threshold - _ROUNDING:
            return True
        return False if self.interval.high < self.threshold - _ROUNDING else None

    def __str__(self) -> str:
        state = {True: "met", False: "missed", None: "open"}[self.holds]
        more = f"; about {self.prompts:,} prompts would settle it" if self.holds is None and self.prompts else ""
        return f"{self.told}: {self.interval} against {self.threshold:.3f}, {state}{more}"


def reference_for(run: Run) -> Reference | None:
    """What `reference_run` gives; without one the handoff's figures for its hub model, `None` for any other policy."""
    v4 = reference_run(run)
    if v4:
        return reference_from(v4)
    return HANDOFF if recipes.HUB_05B in (run.config.get("policy"), run.config.get("base_policy")) else None


def reference_run(run: Run) -> Run | None:
    """The finished V4 run of `run`'s base policy: beside it, else the reader's own, else shipped; same seed first."""
    for root in (run.path.parent, *run_roots()):
        configs = {folder: read_config(folder) for folder in find_runs(root)}
        candidates = [folder for folder, config in configs.items() if _is_reference(config, run.config)]
        for folder in sorted(candidates, key=lambda f: configs[f].get("seed") != run.config.get("seed")):
            v4 = load_run(folder)
            if analysis.end_split(v4):
                return v4
    return None


def reference_from(v4: Run) -> Reference:
    """The reference that a finished V4 run gives: its end, and its base policy's extraction reward."""
    split = analysis.end_split(v4)
    steps = evaluated_steps(v4, split) if split else []
    if split is None or len(steps) < 2:
        raise UserError(f"{v4.path}: no reference, as it lacks an evaluation at its start or at step {v4.max_steps}")
    start, end = (analysis.prompt_rewards(v4, step, split) for step in (steps[0], steps[-1]))
    baseline = analysis.task_interval(start, "extraction").mean
    return Reference(f"V4 run {v4.name} of the same policy", _mean(end), baseline, split, end)


def gather_facts(end: Rewards, reference: Reference | None, draws: int = stats.DRAWS) -> dict[str, Fact]:
    """Every measured value that the tree asks for, from an end evaluation given as `analysis.prompt_rewards`."""
    facts = {"reached": fact("reached", "mean reward at the end", end, ALL, TARGET, draws)}
    if reference:
        facts["improved"] = _improvement(end, reference, draws)
        floor = reference.baseline + NEAR
        facts["moved"] = fact("moved", "extraction, against V4's baseline + 0.03", end, "extraction", floor, draws)
    for task, floor in FLOORS.items():
        facts[f"floor {task}"] = fact(f"floor {task}", f"{task}, against its floor", end, task, floor, draws)
    return facts


def _improvement(end: Rewards, reference: Reference, draws: int) -> Fact:
    """How far the end lies above V4's: paired where both answered the same prompts, else against V4's mean alone."""
    gain = analysis.paired_gain(reference.rewards, end, ALL, draws).difference
    if gain.n:
        told = f"gain over V4's end on the same {gain.n} prompts"
        return Fact("improved", told, gain, NEAR, stats.prompts_to_decide(changes(reference.rewards, end), NEAR))
    mean = analysis.task_interval(end, ALL, draws)
    plateau = reference.plateau
    shifted = Interval(mean.mean - plateau, mean.low - plateau, mean.high - plateau, mean.n)
    values = [value - reference.plateau for value in values_of(end)]
    told = f"mean reward at the end minus V4's {reference.plateau:.3f}"
    return Fact("improved", told, shifted, NEAR, stats.prompts_to_decide(values, NEAR))


def fact(name: str, told: str, end: Rewards, task: str, threshold: float, draws: int) -> Fact:
    """The mean of one task, or of all, against `threshold`."""
    values = values_of(end) if task == ALL else list(end.get(task, {}).values())
    interval = analysis.task_interval(end, task, draws)
    return Fact(name, told, interval, threshold, stats.prompts_to_decide(values, threshold))


def _is_reference(config: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    same = all(config.get(key) == wanted.get(key) for key in ("policy", "base_policy"))
    return same and config.get("recipe", {}).get("name") == "v4"


def fewest_prompts(end: Rewards) -> int:
    """The number of prompts of the task that has fewest."""
    return min(len(end.get(task, {})) for task in TASKS)


def values_of(rewards: Rewards) -> list[float]:
    """Every prompt's reward, tasks one after another."""
    return [value for by_record in rewards.values() for value in by_record.values()]


def changes(before: Rewards, after: Rewards) -> list[float]:
    """The change of every prompt that both evaluations hold."""
    return [
        after[task][record] - before[task][record]
        for task in before
        for record in before[task]
        if record in after.get(task, {})
    ]


def _mean(rewards: Rewards) -> float:
    return analysis.task_interval(rewards).mean
