"""Routing: which policy serves which task, chosen by measured reward and size, kept as a small JSON file.

A task goes to the smallest candidate. A larger one takes it only where the whole 95 % interval of its gain lies above a
margin: paired by prompt where both answered the same prompts, else of two independent samples. All are measured alike
(`MEASURED`). `pin` overrules the numbers.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from helpers.core import stats
from helpers.core.errors import UserError, require_known
from helpers.core.files import PROJECT_ROOT, write_json
from helpers.core.stats import Interval
from helpers.policy import embedded
from helpers.policy.lora import require_adapter
from helpers.recipes import memory
from helpers.runs import compare
from helpers.runs.analysis import Rewards
from helpers.runs.compare import Measured
from helpers.runs.load import load_run
from helpers.runs.origin import read_origin
from helpers.tasks import ROWS, TASKS
from helpers.tasks.records import PAIRS_DIR

MARGIN = 0.05
"""The gain in reward that a larger policy has to be worth; one of extraction's eight value checks is 0.05."""

MEASURED = Measured("eval", "sample", "v4.2", "tolerant")
"""How candidates are compared: sampled answers to the eval split, by whether they are right. What v4.1 pays for is
mostly form, which policies of every size learn."""


@dataclass(frozen=True)
class Candidate:
    """A run whose last adapter may serve tasks, with its rewards by prompt and the parameters of its base model.

    `data` identifies the evaluation's prompts (the hash of their file); None where it is not known.
    """

    name: str
    run: Path
    rewards: Rewards
    parameters: int
    data: str | None = None

    def mean(self, task: str) -> Interval:
        """Mean reward in a task, with its interval."""
        return stats.bootstrap_mean(list(self.rewards.get(task, {}).values()))


class RoutedPolicy(BaseModel):
    """One policy of a route: the run's folder, the adapter in it, and its parameters (cost)."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    run: Path
    adapter: str
    cost: Annotated[int, Field(ge=0)]


class Entry(BaseModel):
    """The policy of one task with its evidence: mean reward, interval, number of prompts, and the reason."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    policy: str
    mean: float | None
    low: float | None
    high: float | None
    prompts: Annotated[int, Field(ge=0)]
    pinned: bool
    reason: str


class Route(BaseModel):
    """Which policy serves which task. `run` of each policy is a folder here; `write_route` makes it relative."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    split: str
    mode: str
    version: str
    parser: str
    margin: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    cost_unit: Literal["parameters"] = "parameters"
    policies: dict[str, RoutedPolicy]
    tasks: dict[str, Entry]

    @model_validator(mode="after")
    def _names_known_tasks_and_policies(self) -> "Route":
        if not self.tasks:
            raise ValueError("tasks is empty")
        for task, entry in self.tasks.items():
            if task not in TASKS:
                raise ValueError(f"unknown task {task!r}; the valid ones are: {', '.join(TASKS)}")
            if entry.policy not in self.policies:
                raise ValueError(f"task {task} names the policy {entry.policy!r}, which `policies` does not hold")
        return self


def candidate(folder: Path, name: str = "", pairs: Path = PAIRS_DIR) -> Candidate:
    """The run in `folder` as a candidate, called `name` (default: the run's name).

    Its completions are scored again where the record holds no scores under the reward of `MEASURED`. Raises `UserError`
    where the record lacks the evaluation, or the size of its hub model is not known.
    """
    run = load_run(folder)
    rewards = compare.rewards_under(run, run.max_steps, MEASURED, pairs)
    return Candidate(name or run.name, folder, rewards, parameters(folder), run.data_hash(MEASURED.split))


def parameters(folder: Path) -> int:
    """Parameters of the base model of the run in `folder`, counted from its shape. `UserError` for an unknown model."""
    origin = read_origin(folder)
    settings = embedded.stand_in(origin.recipe.model_id, origin.profile)
    if settings is None:
        return memory.shape_of(origin.recipe).parameters()
    shape = memory.Shape(
        layers=settings.layers,
        hidden=settings.hidden_size,
        heads=settings.heads,
        kv_heads=settings.kv_heads,
        head_size=settings.head_size,
        ffn=settings.ffn_size,
        vocabulary=settings.vocabulary,
    )
    return shape.parameters()


def choose_route(
    candidates: Sequence[Candidate], margin: float = MARGIN, pin: Mapping[str, str] | None = None
) -> Route:
    """Route every task that a candidate answered; `pin` maps tasks to candidates' names and overrules the numbers."""
    pin = pin or {}
    if not candidates:
        raise UserError("a route needs at least one candidate")
    by_name = {candidate.name: candidate for candidate in candidates}
    if len(by_name) < len(candidates):
        raise UserError(f"candidates need names of their own; got {', '.join(each.name for each in candidates)}")
    if not margin >= 0:
        raise UserError(f"a margin of {margin}: a larger policy cannot be chosen for being worse; give 0 or more")
    for task, name in pin.items():
        require_known("task", task, TASKS)
        require_known("candidate", name, tuple(by_name))
    served = [task for task in TASKS if task in pin or any(candidate.rewards.get(task) for candidate in candidates)]
    if not served:
        raise UserError("no candidate answered a prompt of any task; there is nothing to choose from")
    tasks = {task: _entry(task, candidates, margin, by_name.get(pin.get(task, ""))) for task in served}
    used = {entry.policy for entry in tasks.values()}
    policies = {
        each.name: RoutedPolicy(run=each.run, adapter="adapter", cost=each.parameters)
        for each in candidates
        if each.name in used
    }
    return Route(**vars(MEASURED), margin=margin, policies=policies, tasks=tasks)


def handoff_pin(small: str, large: str) -> dict[str, str]:
    """The handoff's split where sql_qa lags: the small policy keeps extraction and push, the large one gets the rest.

    >>> handoff_pin("0.5B", "3.7B")["insights"]
    '3.7B'
    """
    return {row.name: large if row.needs_large_policy else small for row in ROWS}


def route_table(route: Route) -> list[dict[str, Any]]:
    """A route as rows for a DataFrame: task, policy, parameters, mean, interval, prompts, pinned, reason."""
    rows = []
    for task, entry in route.tasks.items():
        cost = {route.cost_unit: route.policies[entry.policy].cost}
        rows.append({"task": task, "policy": entry.policy} | cost | entry.model_dump(exclude={"policy"}))
    return rows


def write_route(route: Route, path: Path) -> None:
    """Write a route as JSON, run folders relative to the file's folder or else the project's, so that both can move."""
    content = route.model_dump(mode="json")
    for name, policy in route.policies.items():
        run, beside = policy.run.resolve(), path.resolve().parent
        root = next((root for root in (beside, PROJECT_ROOT) if run.is_relative_to(root)), None)
        if root is None:
            raise UserError(f"{run}: a route names runs under its own folder ({beside}) or the project; move the run")
        content["policies"][name]["run"] = run.relative_to(root).as_posix()
    write_json(path, content)


def read_route(path: Path) -> Route:
    """The route in a file that `write_route` made, with the paths of its runs; `UserError` where one is not usable."""
    route = _validated(path)
    policies = {}
    for name, policy in route.policies.items():
        run = _located(path, name, policy)
        if not (run / "config.json").is_file():
            raise UserError(f"{path}: policy {name!r}: no run folder {policy.run} beside the file or in the project")
        require_adapter(run / policy.adapter)
        policies[name] = policy.model_copy(update={"run": run})
    return route.model_copy(update={"policies": policies})


def policy_name(route: Route, task: str) -> str:
    """The name of the policy that serves `task`; `UserError` where the route does not serve it."""
    require_known("task", task, TASKS)
    if task not in route.tasks:
        raise UserError(f"the route serves no {task}, only {', '.join(route.tasks)}")
    return route.tasks[task].policy


def difference(smaller: Candidate, larger: Candidate, task: str) -> tuple[Interval, str]:
    """How much better `larger` is than `smaller` in one task, and how they were compared: "paired" or "unpaired"."""
    before, after = smaller.rewards[task], larger.rewards[task]
    same_data = smaller.data is None or larger.data is None or smaller.data == larger.data
    if same_data and before.keys() == after.keys():
        return stats.paired_difference(list(before.values()), [after[record] for record in before]), "paired"
    return stats.unpaired_difference(list(before.values()), list(after.values())), "unpaired"


def _entry(task: str, candidates: Sequence[Candidate], margin: float, pinned: Candidate | None) -> Entry:
    answered = [candidate for candidate in candidates if candidate.rewards.get(task)]
    by_size = sorted(answered, key=lambda candidate: (candidate.parameters, -candidate.mean(task).mean))
    if by_size:
        chosen, reason = _smallest_good_enough(task, by_size, margin)
    else:
        chosen, reason = candidates[0], "nothing was measured"
    if pinned is not None:
        numbers = f"the numbers say {chosen.name}: {reason}" if by_size else reason
        chosen, reason = pinned, f"pinned by hand; {numbers}"
    interval = chosen.mean(task)
    ends = {"mean": interval.mean, "low": interval.low, "high": interval.high}
    rounded = {name: round(value, 6) if math.isfinite(value) else None for name, value in ends.items()}
    return Entry(policy=chosen.name, **rounded, prompts=interval.n, pinned=pinned is not None, reason=reason)


def _smallest_good_enough(task: str, by_size: Sequence[Candidate], margin: float) -> tuple[Candidate, str]:
    """The smallest candidate, or a larger one that beats each choice before it by more than the margin; and why."""
    chosen, reasons = by_size[0], [_why_first(by_size)]
    for larger in by_size[1:]:
        gain, how = difference(chosen, larger, task)
        if gain.low > margin:
            reasons = [f"{gain.signed()} ({how}) over {chosen.name}, wholly above {margin:g}"]
            chosen = larger
        else:
            reasons.append(f"{larger.name} {gain.signed()} ({how}), not wholly above {margin:g}")
    return chosen, "; ".join(reasons)


def _why_first(by_size: Sequence[Candidate]) -> str:
    if len(by_size) == 1:
        return "the only candidate"
    return "the best of the cheapest" if by_size[1].parameters == by_size[0].parameters else "the cheapest"


def _located(path: Path, name: str, policy: RoutedPolicy) -> Path:
    """The run folder that a route file names; `UserError` for a path that leads out of where runs may lie."""
    for part in (policy.run, Path(policy.adapter)):
        if part.is_absolute() or ".." in part.parts:
            raise UserError(
                f"{path}: policy {name!r}: the path {part} leads outside; runs lie beside the file or in the project"
            )
    beside = path.parent / policy.run
    return beside if beside.is_dir() else PROJECT_ROOT / policy.run


def _validated(path: Path) -> Route:
    if not path.is_file():
        raise UserError(f"{path}: no such file; notebooks 04a and 04c write one")
    try:
        return Route.model_validate_json(path.read_bytes())
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"])
        where = f"{path}: {field}" if field else str(path)
        message = problem["msg"].removeprefix("Value error, ")
        raise UserError(f"{where}: {message}; it is not a route that can be used") from error
