"""The decision tree: from facts to scenario A, B, C, "undecided" or "none"."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from statistics import fmean
from typing import Literal

from helpers import recipes
from helpers.core.stats import Interval
from helpers.recipes import profiles
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
from helpers.tasks import TASKS, spec

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


def decide(run: Run, reference: Reference | None = None) -> Decision:
    """Walk the handoff's tree for a V4.1 run; thresholds and precedence stand in the package's docstring."""
    split = analysis.end_split(run)
    if (run.recipe, run.reward_version) != (recipes.V41.name, recipes.V41.version):
        return _not_a_v41_run(run)
    if split is None:
        return _unfinished(run)
    end = analysis.prompt_rewards(run, run.max_steps, split)
    if fewest_prompts(end) < MIN_PROMPTS:
        return _too_few(run, fewest_prompts(end))
    reference = reference or reference_for(run)
    return walk(gather_facts(end, reference), _recent_means(run, end), run.where, reference)


def _recent_means(run: Run, end: Rewards) -> dict[str, float]:
    """Each task's mean reward over the last three subset evaluations; the end alone where there are none.

    Step 0, the base policy, is no evaluation of the run. A task that was not asked has no mean: NaN.
    """
    steps = [step for step in evaluated_steps(run, "eval_subset") if step > 0][-3:]
    latest: list[Rewards] = [analysis.prompt_rewards(run, step, "eval_subset") for step in steps] or [end]
    means = {task: [fmean(rewards[task].values()) for rewards in latest if rewards.get(task)] for task in TASKS}
    return {task: fmean(values) if values else float("nan") for task, values in means.items()}


def walk(facts: Mapping[str, Fact], recent: Mapping[str, float], run: str, reference: Reference | None) -> Decision:
    """The decision that `facts` allow. `recent` is each task's mean over the last evaluations: a lag must last."""
    branches = _branches(facts, recent)
    name = reference.name if reference else "no reference: there is no V4 run of this policy"
    if len(branches) > 1:
        decided = _undecided(facts, recent, branches, run, name)
    else:
        scenario = branches.pop()
        reasons = [str(facts[key]) for key in _WEIGHED[scenario] if key in facts] + [f"reference: {name}"]
        if scenario == "C":
            decided = _lagging(facts, recent, reasons)
        else:
            title, step, command = _OUTCOMES[scenario]
            decided = Decision(scenario, title, reasons, step, command.format(run=run))
    return replace(decided, evidence=list(facts.values()), reference=name)


def _branches(facts: Mapping[str, Fact], recent: Mapping[str, float]) -> set[Scenario]:
    """Every scenario that the open points leave possible."""
    names = _WEIGHED["none"]
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
        step = "evaluate with more prompts, or more completions per prompt, and hold the interval against the threshold"
        command = f"python -m helpers evaluate --run {run} --samples 8"
    return Decision("undecided", "The evaluation does not decide", reasons, step, command)


def _matters(name: str, facts: Mapping[str, Fact], recent: Mapping[str, float]) -> bool:
    """Whether settling the open fact `name` would change which scenarios are possible."""
    fact = facts[name]
    met, missed = (
        replace(fact, interval=Interval(value, value, value, fact.interval.n))
        for value in (fact.threshold, fact.threshold - 1)
    )
    return _branches({**facts, name: met}, recent) != _branches({**facts, name: missed}, recent)


def _lagging(facts: Mapping[str, Fact], recent: Mapping[str, float], reasons: list[str]) -> Decision:
    """Scenario C with the fix for the weakest of the tasks that lag."""
    lagging = [task for task in TASKS if facts[f"floor {task}"].holds is False and recent[task] < FLOORS[task]]
    task = min(lagging, key=lambda lagger: facts[f"floor {lagger}"].interval.mean)
    reasons = reasons + [str(facts[f"floor {lagger}"]) for lagger in lagging]
    return Decision("C", f"One task lags: {task}", reasons, spec.task(task).fix, _command("04c"), task=task)


def _not_a_v41_run(run: Run) -> Decision:
    reasons = [
        f"{run.name} is a run of recipe {run.recipe}, rewarded by {run.reward_version}; "
        "the tree's thresholds and branches are about recipe v4.1 and its reward"
    ]
    step = "compare it with a V4.1 run instead"
    return Decision("none", "Not a V4.1 run", reasons, step, f"python -m helpers compare RUN {run.where}")


def _unfinished(run: Run) -> Decision:
    stopped = [event for event in run.events if event.get("kind") == "stop"]
    stops = [f"stopped at step {event['step']}: {event.get('message')}" for event in stopped]
    reasons = [f"no evaluation at step {run.max_steps}; the record ends at step {run.last_step}", *stops]
    if stopped:  # a stopped run is finished: resuming it trains nothing
        rules = ", ".join(dict.fromkeys(str(event.get("rule", "RULE")) for event in stopped))
        step = f"look at the stop table; to train to the end, start a new run without --stop {rules}"
        command = _train_command(run, f"{run.where}-unstopped")
    else:
        step, command = "resume the run from its last checkpoint", f"{_train_command(run, run.where)} --resume"
    return Decision("undecided", "The run did not reach its last step", reasons, step, command)


def _train_command(run: Run, folder: str) -> str:
    """What to type to train `run`'s recipe as it was trained, into `folder`."""
    profile = run.config.get("profile", {})
    name, backend = profile.get("name"), profile.get("backend")
    usual = name in profiles.PROFILES and profiles.PROFILES[name].backend == backend
    given = {"recipe": run.recipe, "profile": name, "backend": None if usual else backend}
    given |= {"seed": run.config.get("seed"), "out": folder}
    options = [word for name, value in given.items() if value is not None for word in (f"--{name}", str(value))]
    return shlex.join(["python", "-m", "helpers", "train", *options])


def _too_few(run: Run, fewest: int) -> Decision:
    reasons = [f"a task was evaluated on {fewest} prompts only; at least {MIN_PROMPTS} a task are needed"]
    step = "evaluate the whole eval split"
    return Decision("undecided", "Too few prompts", reasons, step, f"python -m helpers evaluate --run {run.where}")


def _command(notebook: str) -> str:
    return f"python -m helpers notebooks --notebooks {notebook}"


_OUTCOMES: dict[str, tuple[str, str, str]] = {
    "A": (
        "The target is reached: scale",
        "scale to 3.7B-Instruct with the V4.1 recipe: 8 generations, 1,024 tokens, learning rate 2e-6, 400 steps; "
        "rewards and schedule stay (handoff, scenario A)",
        _command("04a"),
    ),
    "B": (
        "No better than V4, extraction stuck: switch",
        "switch to the 0.5B base model: one epoch of SFT on the extraction pairs, then V4.1 on top "
        "(handoff, scenario B)",
        _command("04b"),
    ),
    "none": (
        "No branch of the tree fits",
        "the handoff has no branch for this: look at the parts of the lowest task and at the curves, then train longer "
        "or with another seed",
        "python -m helpers report {run}",
    ),
}
"""Title, next step and command of each scenario but C, whose step is the lagging task's own."""
_WEIGHED: dict[str, tuple[str, ...]] = {
    "A": ("reached",),
    "B": ("reached", "improved", "moved"),
    "C": ("reached", "improved"),
    "none": ("reached", "improved", "moved", *(f"floor {task}" for task in TASKS)),
}
