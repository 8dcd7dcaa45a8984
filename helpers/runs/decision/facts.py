"""What a run is compared with (`Reference`), and measured values against thresholds (`Fact`)."""

from dataclasses import dataclass, field

from helpers import recipes
from helpers.core import stats
from helpers.core.errors import UserError
from helpers.core.stats import Interval
from helpers.runs import analysis
from helpers.runs.analysis import ALL, Rewards
from helpers.runs.load import Run, evaluated_steps, find_runs, load_run, policies_of, readable, recipe_name, run_roots
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
    """What a V4.1 run is compared with. `rewards` holds V4's end evaluation prompt by prompt, where it is at hand."""

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
    label: str
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
        return f"{self.label}: {self.interval} against {self.threshold:.3f}, {state}{more}"


def reference_for(run: Run) -> Reference | None:
    """What `reference_run` gives; without one the handoff's figures for its hub model, `None` for any other policy."""
    v4 = reference_run(run)
    if v4:
        return reference_from(v4)
    return HANDOFF if recipes.HUB_05B in policies_of(run.config) else None


def reference_run(run: Run) -> Run | None:
    """The finished V4 run of `run`'s base policy: beside it, else the reader's own, else shipped; same seed first."""
    beside = find_runs(run.path.resolve().parent, deep=False)
    for folders in (beside, *map(find_runs, run_roots())):
        configs = {folder: config for folder, config in readable(folders) if recipe_name(config) == "v4"}
        same_policy = [folder for folder, config in configs.items() if policies_of(config) == policies_of(run.config)]
        for folder in sorted(same_policy, key=lambda folder: configs[folder].get("seed") != run.config.get("seed")):
            v4 = load_run(folder)
            if analysis.end_split(v4):
                return v4
    return None


def reference_from(v4: Run) -> Reference:
    """The reference that a finished V4 run gives: its end, and its base policy's extraction reward."""
    split = analysis.end_split(v4) or ""
    steps = evaluated_steps(v4, split)
    if len(steps) < 2:
        raise UserError(f"{v4.path}: no reference, as it lacks an evaluation at its start or at step {v4.max_steps}")
    start, end = (analysis.prompt_rewards(v4, step, split) for step in (steps[0], steps[-1]))
    plateau, baseline = analysis.task_interval(end).mean, analysis.task_interval(start, "extraction").mean
    return Reference(f"V4 run {v4.name} of the same policy", plateau, baseline, split, end)


def gather_facts(end: Rewards, reference: Reference | None, draws: int = stats.DRAWS) -> dict[str, Fact]:
    """Every measured value that the tree asks for, from the rewards of an end evaluation."""
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
    gain = analysis.paired_gain(reference.rewards, end)
    if gain.difference.n:
        label = f"gain over V4's end on the same {gain.difference.n} prompts"
        return Fact("improved", label, gain.difference, NEAR, stats.prompts_to_decide(gain.changes, NEAR))
    mean, plateau = analysis.task_interval(end, ALL, draws), reference.plateau
    shifted = Interval(mean.mean - plateau, mean.low - plateau, mean.high - plateau, mean.n)
    values = [value - plateau for value in analysis.values_of(end)]
    label = f"mean reward at the end minus V4's {plateau:.3f}"
    return Fact("improved", label, shifted, NEAR, stats.prompts_to_decide(values, NEAR))


def fact(name: str, label: str, end: Rewards, task: str, threshold: float, draws: int = stats.DRAWS) -> Fact:
    """The mean of one task, or of all, against `threshold`."""
    prompts = stats.prompts_to_decide(analysis.values_of(end, task), threshold)
    return Fact(name, label, analysis.task_interval(end, task, draws), threshold, prompts)


def fewest_prompts(end: Rewards) -> int:
    """The number of prompts of the task that has fewest."""
    return min(len(end.get(task, {})) for task in TASKS)
