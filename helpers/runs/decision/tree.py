"""The decision tree: from facts to scenario A, B, C, "undecided" or "none"."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Literal

from helpers.core import stats
from helpers.core.stats import Interval
from helpers.runs import analysis
from helpers.runs.analysis import Rewards
from helpers.runs.decision.facts import (
    FLOORS,
    MIN_PROMPTS,
    Fact,
    Reference,
    fewest_prompts,
    gather_facts,
    reference_for,
)
from helpers.runs.load import Run, evaluated_steps
from helpers.runs.stop_rules import NEAR
from helpers.tasks import ROWS, TASKS

Scenario = Literal["A", "B", "C", "undecided", "none"]


@dataclass(frozen=True)
class Decision:
    """Where the tree leads: the scenario, why, what to do, and every fact that was weighed."""

    scenario: Scenario
    title: str
    reasons: list[str]
    next_step: str
    command: str
    evidence: list[Fact] = field(default_factory=list)
    task: str | None = None
    reference: str = ""

    @property
    def notebook(self) -> str | None:
        """The number of the notebook that runs the decided branch."""
        return {"A": "04a", "B": "04b", "C": "04c"}.get(self.scenario)

    def __str__(self) -> str:
        name = f"Scenario {self.scenario}" if self.scenario in ("A", "B", "C") else self.scenario.capitalize()
        reasons = "".join(f"\n  - {reason}" for reason in self.reasons)
        return f"{name}: {self.title}{reasons}\n  Next: {self.next_step}\n  Command: {self.command}"


def decide(run: Run, reference: Reference | None = None, draws: int = stats.DRAWS) -> Decision:
    """Walk the handoff's tree for a V4.1 run; thresholds and precedence stand in the package's docstring."""
    split = analysis.end_split(run)
    if run.reward_version != "v4.1":
        return _not_a_v41_run(run)
    if split is None:
        return _unfinished(run)
    end = analysis.prompt_rewards(run, run.max_steps, split)
    if fewest_prompts(end) < MIN_PROMPTS:
        return _too_few(run, fewest_prompts(end))
    reference = reference or reference_for(run)
    facts = gather_facts(end, reference, draws)
    return walk(facts, _recent_means(run, end), run.where, reference)


def _recent_means(run: Run, end: Rewards) -> dict[str, float]:
    """Each task's mean reward over the last three subset evaluations; the end alone where there are none."""
    steps = evaluated_steps(run, "eval_subset")[-3:]
    latest: list[Rewards] = [analysis.prompt_rewards(run, step, "eval_subset") for step in steps]
    latest = latest or [end]
    return {task: sum(_plain_mean(rewards.get(task, {})) for rewards in latest) / len(latest) for task in TASKS}


def _plain_mean(rewards: Mapping[str, float]) -> float:
    return sum(rewards.values()) / len(rewards) if rewards else math.nan


def walk(facts: Mapping[str, Fact], recent: Mapping[str, float], run: str, reference: Reference | None) -> Decision:
    """The decision that `facts` allow. `recent` is each task's mean over the last evaluations: a lag must last."""
    branches = _branches(facts, recent)
    name = reference.name if reference else "no reference: there is no V4 run of this policy"
    evidence = list(facts.values())
    if len(branches) > 1:
        return _undecided(facts, recent, branches, run, name)
    scenario = branches.pop()
    reasons = [str(fact) for fact in evidence if fact.name in _WEIGHED[scenario]] + [f"reference: {name}"]
    if scenario == "C":
        return _lagging(facts, recent, reasons, evidence, name)
    title, step, command = _OUTCOMES[scenario]
    return Decision(scenario, title, reasons, step, command.format(run=run), evidence, reference=name)


def _branches(facts: Mapping[str, Fact], recent: Mapping[str, float]) -> set[Scenario]:
    """Every scenario that the open points leave possible."""
    names = ["reached", "improved", "moved", *(f"floor {task}" for task in TASKS)]
    states = [facts[name].holds if name in facts else None for name in names]
    choices = [(True, False) if state is None else (state,) for state in states]
    return {_branch(dict(zip(names, world, strict=True)), facts, recent) for world in product(*choices)}


def _branch(world: Mapping[str, bool], facts: Mapping[str, Fact], recent: Mapping[str, float]) -> Scenario:
    if world["reached"]:
        return "A"
    if not world["improved"] and not world["moved"]:
        clearly_worse = "improved" in facts and facts["improved"].interval.high < -NEAR
        return "none" if clearly_worse else "B"
    lags = any(not world[f"floor {task}"] and recent[task] < FLOORS[task] for task in TASKS)
    return "C" if world["improved"] and lags else "none"


def _undecided(
    facts: Mapping[str, Fact], recent: Mapping[str, float], branches: set[Scenario], run: str, name: str
) -> Decision:
    """Which scenarios are still possible, and which open points keep them so."""
    keeping = [fact for fact in facts.values() if fact.holds is None and _matters(fact.name, facts, recent)]
    possible = ", ".join(sorted(branches))
    reasons = [f"still possible: {possible}", *(str(fact) for fact in keeping), f"reference: {name}"]
    if "improved" not in facts:
        reasons.append("B and C need V4's plateau, and no V4 run of this policy was found")
        step, command = "train the V4 reference, then report again", "python -m helpers train --recipe v4"
    else:
        step = "evaluate with more prompts, or more completions a prompt, and hold the interval against the threshold"
        command = f"python -m helpers evaluate --run {run} --samples 8"
    return Decision(
        "undecided", "The evaluation does not decide", reasons, step, command, list(facts.values()), None, name
    )


def _matters(name: str, facts: Mapping[str, Fact], recent: Mapping[str, float]) -> bool:
    """Whether settling the open fact `name` would change which scenarios are possible."""
    fact = facts[name]
    met, missed = (Interval(value, value, value, fact.interval.n) for value in (fact.threshold, fact.threshold - 1))
    ways = [
        _branches({**facts, name: Fact(name, fact.label, interval, fact.threshold)}, recent)
        for interval in (met, missed)
    ]
    return ways[0] != ways[1]


def _lagging(
    facts: Mapping[str, Fact], recent: Mapping[str, float], reasons: list[str], evidence: list[Fact], name: str
) -> Decision:
    """Scenario C with the fix for the weakest of the tasks that lag."""
    lagging = [task for task in TASKS if facts[f"floor {task}"].holds is False and recent[task] < FLOORS[task]]
    task = min(lagging, key=lambda lagger: facts[f"floor {lagger}"].interval.mean)
    reasons = reasons + [str(facts[f"floor {lagger}"]) for lagger in lagging]
    return Decision("C", f"One task lags: {task}", reasons, _FIXES[task], _command("04c"), evidence, task, name)


def _not_a_v41_run(run: Run) -> Decision:
    reasons = [f"{run.name} was rewarded by {run.reward_version}; the tree's thresholds are about v4.1"]
    step = "compare it with a V4.1 run instead"
    return Decision("none", "Not a V4.1 run", reasons, step, f"python -m helpers compare RUN {run.where}")


def _unfinished(run: Run) -> Decision:
    stopped = [event for event in run.events if event.get("kind") == "stop"]
    stops = [f"stopped at step {event['step']}: {event.get('message')}" for event in stopped]
    reasons = [f"no evaluation at step {run.max_steps}; the record ends at step {run.last_step}", *stops]
    step = "look at the stop table, then resume the run" if stops else "resume the run from its last checkpoint"
    command = f"python -m helpers train --recipe {run.recipe} --out {run.where} --resume"
    return Decision("undecided", "The run did not reach its last step", reasons, step, command)


def _too_few(run: Run, fewest: int) -> Decision:
    reasons = [f"a task was evaluated on {fewest} prompts only; at least {MIN_PROMPTS} a task are needed"]
    step = "evaluate the whole eval split"
    return Decision("undecided", "Too few prompts", reasons, step, f"python -m helpers evaluate --run {run.where}")


def _command(notebook: str) -> str:
    return f"python -m helpers notebooks --notebooks {notebook}"


_A_STEP = (
    "scale to 3.7B-Instruct with the V4.1 recipe: 8 generations, 1,024 tokens, learning rate 2e-6, 400 steps; "
    "rewards and schedule stay (handoff, scenario A)"
)
_B_STEP = (
    "switch to the 0.5B base model: one epoch of SFT on the extraction pairs, then V4.1 on top (handoff, scenario B)"
)
_NONE_STEP = (
    "the handoff has no branch for this: look at the parts of the lowest task and at the curves, "
    "then train longer or with another seed"
)

_OUTCOMES: dict[str, tuple[str, str, str]] = {
    "A": ("The target is reached: scale", _A_STEP, _command("04a")),
    "B": ("No better than V4, extraction stuck: switch", _B_STEP, _command("04b")),
    "none": ("No branch of the tree fits", _NONE_STEP, "python -m helpers report {run}"),
}
_FIXES: dict[str, str] = {row.name: row.fix for row in ROWS}
_WEIGHED: dict[str, tuple[str, ...]] = {
    "A": ("reached",),
    "B": ("reached", "improved", "moved"),
    "C": ("reached", "improved"),
    "none": ("reached", "improved", "moved", *(f"floor {task}" for task in TASKS)),
}
