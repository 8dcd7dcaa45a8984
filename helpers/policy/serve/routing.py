"""Routing: which policy serves which task, chosen from measured rewards and cost, kept as a small JSON file.

A task goes to the cheapest candidate. A dearer one takes it only where it is better with the whole 95 % interval of the
difference above a margin: paired by prompt where both answered the same prompts, else of two independent samples.
Candidates compare only under one reward version, on one split, decoded in one mode. `pin` overrules the numbers.
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
from helpers.policy import embedded, loading
from helpers.policy.run_policy import read_origin
from helpers.recipes import memory, parser_of
from helpers.recipes.profiles import EmbeddedSettings
from helpers.runs import analysis
from helpers.runs.analysis import Measured, Rewards
from helpers.runs.load import Run, load_run
from helpers.runs.record import KNOWN_EVAL_SECONDS, split_prefix
from helpers.tasks import ROWS, TASKS
from helpers.tasks.records import PAIRS_DIR

MARGIN = 0.05
"""The gain in reward that a dearer policy has to be worth; one of extraction's eight value checks is 0.05."""

CostUnit = Literal["seconds a completion", "parameters"]
SECONDS: CostUnit = "seconds a completion"
PARAMETERS: CostUnit = "parameters"


@dataclass(frozen=True)
class Candidate:
    """A policy that may serve tasks: a run's adapter (None: its base policy), its rewards by prompt, and its cost.

    `data` identifies the evaluation's prompts (the hash of their file); None where it is not known.
    """

    name: str
    run: Path
    adapter: str | None
    rewards: Rewards
    cost: float
    cost_unit: CostUnit
    measured: Measured
    data: str | None = None


class RoutedPolicy(BaseModel):
    """One policy of a route: the run's folder, the adapter in it (None: the base policy), and what an answer costs."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    run: Path
    adapter: str | None
    cost: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Entry(BaseModel):
    """The policy of one task with its evidence: mean reward, interval, prompts behind it, and the reason why."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    policy: str
    mean: float | None
    low: float | None
    high: float | None
    prompts: Annotated[int, Field(ge=0)]
    pinned: bool
    reason: str


class Route(BaseModel):
    """Which policy serves which task. `run` of each policy is a folder on this machine; `write` makes it relative."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    split: str
    mode: str
    version: str
    parser: str
    margin: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    cost_unit: CostUnit
    policies: dict[str, RoutedPolicy]
    tasks: dict[str, Entry]

    @model_validator(mode="after")
    def _names_what_there_is(self) -> "Route":
        if not self.tasks:
            raise ValueError("tasks is empty")
        for task, entry in self.tasks.items():
            if task not in TASKS:
                raise ValueError(f"unknown task {task!r}; the valid ones are: {', '.join(TASKS)}")
            if entry.policy not in self.policies:
                raise ValueError(f"task {task} names the policy {entry.policy!r}, which `policies` does not hold")
        return self


def candidate(
    folder: Path,
    name: str = "",
    *,
    trained: bool = True,
    split: str = "eval",
    mode: str = "sample",
    version: str = "v4.1",
    cost: tuple[float, CostUnit] | None = None,
    pairs: Path = PAIRS_DIR,
) -> Candidate:
    """The candidate that the run in `folder` is: its last adapter, or the base policy it started from.

    Its completions are scored again where the record holds no scores under `version`. `cost` defaults to the measured
    seconds a completion of that evaluation. Raises `UserError` where the record lacks the evaluation.
    """
    run = load_run(folder)
    step = run.max_steps if trained else 0
    measured = Measured(split, mode, version, parser_of(version))
    rewards = analysis.rewards_under(run, step, measured, pairs)
    value, unit = cost or (seconds_a_completion(run, step, split, mode), SECONDS)
    return Candidate(
        name or (run.name if trained else f"{run.name} base"),
        folder,
        "adapter" if trained else None,
        rewards,
        value,
        unit,
        measured,
        run.config.get("data", {}).get(f"{split.removesuffix('_subset')}.jsonl"),
    )


def seconds_a_completion(run: Run, step: int, split: str, mode: str) -> float:
    """The measured seconds a completion of one evaluation, batches and all; `UserError` where it was not timed.

    Where its answers were known, those are the seconds of the run that asked.
    """
    logged = "eval/mean_reward" if split == "eval_subset" else f"{split_prefix(split, mode)}mean_reward"
    own = [row for row in run.history if row["step"] == step and logged in row]
    taken = [row[key] for row in own for key in ("time/eval_s", KNOWN_EVAL_SECONDS) if key in row]
    rows = run.scored
    answered = ((rows["step"] == step) & (rows["split"] == split) & (rows["mode"] == mode)).sum()
    if not taken or not answered:
        raise UserError(f"{run.where}: its evaluation of {split} at step {step} was not timed; give the cost yourself")
    return taken[-1] / int(answered)


def parameters(folder: Path) -> tuple[float, CostUnit]:
    """The cost of a run's policy as its base model's parameters: the same on a busy machine as on an idle one.

    For `candidate(..., cost=parameters(folder))`. Raises `UserError` for a hub model whose sizes are not known.
    """
    origin = read_origin(folder)
    small = embedded.stand_in(origin.recipe.model_id, origin.profile)
    shape = memory.shape_of(origin.recipe) if small is None else _shape(small)
    return shape.parameters(), PARAMETERS


def choose(candidates: Sequence[Candidate], margin: float = MARGIN, pin: Mapping[str, str] | None = None) -> Route:
    """Route every task that a candidate answered; `pin` maps tasks to candidates' names and overrules the numbers.

    Raises `UserError` where candidates were measured or priced differently, names repeat, or a pin names what is not
    there.
    """
    pin = dict(pin or {})
    _require_comparable(candidates)
    if not margin >= 0:
        raise UserError(f"a margin of {margin}: a dearer policy cannot be chosen for being worse; give 0 or more")
    by_name = {found.name: found for found in candidates}
    for task, name in pin.items():
        require_known("task", task, TASKS)
        require_known("candidate", name, tuple(by_name))
    answered = [task for task in TASKS if task in pin or any(found.rewards.get(task) for found in candidates)]
    if not answered:
        raise UserError("no candidate answered a prompt of any task; there is nothing to choose from")
    tasks = {task: _entry(task, candidates, margin, by_name.get(pin.get(task, ""))) for task in answered}
    first, used = candidates[0], {entry.policy for entry in tasks.values()}
    return Route(
        **vars(first.measured),
        margin=margin,
        cost_unit=first.cost_unit,
        policies={
            found.name: RoutedPolicy(run=found.run, adapter=found.adapter, cost=found.cost)
            for found in candidates
            if found.name in used
        },
        tasks=tasks,
    )


def handoff_pin(small: str, large: str) -> dict[str, str]:
    """The handoff's split where sql_qa lags: the small policy keeps extraction and push, the large one gets the rest.

    >>> handoff_pin("0.5B", "3.7B")["insights"]
    '3.7B'
    """
    return {row.name: large if row.needs_large_policy else small for row in ROWS}


def table(route: Route) -> list[dict[str, Any]]:
    """A route as rows for a DataFrame: task, policy, cost, mean, interval, prompts, pinned, reason."""
    return [
        {
            "task": task,
            "policy": entry.policy,
            route.cost_unit: route.policies[entry.policy].cost,
            "mean": entry.mean,
            "low": entry.low,
            "high": entry.high,
            "prompts": entry.prompts,
            "pinned": entry.pinned,
            "reason": entry.reason,
        }
        for task, entry in route.tasks.items()
    ]


def write(route: Route, path: Path) -> None:
    """Write a route as JSON. Run folders become relative to the file's folder where they lie under it, else to the
    project's, so that either can be moved; `UserError` for a run that lies in neither."""
    content = route.model_dump(mode="json")
    for name, policy in route.policies.items():
        content["policies"][name]["run"] = _relative(policy.run.resolve(), path.resolve().parent)
    write_json(path, content)


def read(path: Path) -> Route:
    """The route in a file that `write` made, its runs found on this machine.

    Raises `UserError` in one line for a file that is not a route, names a path outside of the file's folder and the
    project, or names a run or an adapter that is not there.
    """
    route = _validated(path)
    policies = {}
    for name, policy in route.policies.items():
        run = _located(path, name, policy)
        if not (run / "config.json").is_file():
            raise UserError(f"{path}: policy {name!r}: no run folder {policy.run} beside the file or in the project")
        if policy.adapter is not None:
            loading.require_adapter(run / policy.adapter)
        policies[name] = policy.model_copy(update={"run": run})
    return route.model_copy(update={"policies": policies})


def policy_of(route: Route, task: str) -> tuple[str, RoutedPolicy]:
    """The name and the policy that serve `task`; `UserError` where the route does not serve it."""
    require_known("task", task, TASKS)
    if task not in route.tasks:
        raise UserError(f"the route serves no {task}, only {', '.join(route.tasks)}")
    name = route.tasks[task].policy
    return name, route.policies[name]


def difference(cheaper: Candidate, dearer: Candidate, task: str) -> tuple[Interval, str]:
    """How far `dearer` lies above `cheaper` in one task, and how that was compared: "paired" or "unpaired"."""
    before, after = cheaper.rewards[task], dearer.rewards[task]
    same_data = cheaper.data is None or dearer.data is None or cheaper.data == dearer.data
    if same_data and before.keys() == after.keys():
        return stats.paired_difference(list(before.values()), [after[record] for record in before]), "paired"
    return stats.unpaired_difference(list(before.values()), list(after.values())), "unpaired"


def _require_comparable(candidates: Sequence[Candidate]) -> None:
    if not candidates:
        raise UserError("a route needs at least one candidate")
    first, names = candidates[0], [found.name for found in candidates]
    if len(set(names)) < len(names):
        raise UserError(f"candidates need names of their own; got {', '.join(names)}")
    for found in candidates:
        if found.measured != first.measured:
            measured = f"{_told(first.measured)}, {found.name} by {_told(found.measured)}"
            raise UserError(f"{first.name} was measured by {measured}; measure both alike")
        if found.cost_unit != first.cost_unit:
            raise UserError(f"{first.name} costs {first.cost_unit}, {found.name} {found.cost_unit}; price both alike")
        if not 0 <= found.cost < math.inf:
            raise UserError(f"{found.name}: a cost of {found.cost} {found.cost_unit} is no price")


def _told(measured: Measured) -> str:
    return f"{measured.split}, {measured.mode}, reward {measured.version}"


def _entry(task: str, candidates: Sequence[Candidate], margin: float, pinned: Candidate | None) -> Entry:
    answered = [found for found in candidates if found.rewards.get(task)]
    by_cost = sorted(answered, key=lambda found: (found.cost, -_mean(found, task).mean))
    chosen, reason = (
        _cheapest_good_enough(task, by_cost, margin) if by_cost else (candidates[0], "nothing was measured")
    )
    if pinned is not None:
        numbers = f"the numbers say {chosen.name}: {reason}" if by_cost else reason
        chosen, reason = pinned, f"pinned by hand; {numbers}"
    interval = _mean(chosen, task)
    return Entry(
        policy=chosen.name,
        mean=_finite(interval.mean),
        low=_finite(interval.low),
        high=_finite(interval.high),
        prompts=interval.n,
        pinned=pinned is not None,
        reason=reason,
    )


def _cheapest_good_enough(task: str, by_cost: Sequence[Candidate], margin: float) -> tuple[Candidate, str]:
    """The cheapest candidate, or the dearer one that beats each choice before it by more than the margin; and why."""
    chosen, reasons = by_cost[0], ["the cheapest" if len(by_cost) > 1 else "the only candidate"]
    for dearer in by_cost[1:]:
        gain, how = difference(chosen, dearer, task)
        if gain.low > margin:
            reasons = [f"{gain.signed()} ({how}) over {chosen.name}, wholly above {margin:g}"]
            chosen = dearer
        else:
            reasons.append(f"{dearer.name} {gain.signed()} ({how}), not wholly above {margin:g}")
    return chosen, "; ".join(reasons)


def _mean(found: Candidate, task: str) -> Interval:
    return stats.bootstrap_mean(list(found.rewards.get(task, {}).values()))


def _finite(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


def _shape(small: EmbeddedSettings) -> memory.Shape:
    return memory.Shape(
        layers=small.layers,
        hidden=small.hidden_size,
        heads=small.heads,
        kv_heads=small.kv_heads,
        head_size=small.head_size,
        ffn=small.ffn_size,
        vocabulary=small.vocabulary,
    )


def _relative(run: Path, beside: Path) -> str:
    for root in (beside, PROJECT_ROOT):
        if run.is_relative_to(root):
            return run.relative_to(root).as_posix()
    raise UserError(f"{run}: a route names runs under its own folder ({beside}) or the project; move or copy the run")


def _located(path: Path, name: str, policy: RoutedPolicy) -> Path:
    """The run folder that a route file means; `UserError` for a path that leads out of where runs may lie."""
    for part in (policy.run, Path(policy.adapter or "")):
        if part.is_absolute() or ".." in part.parts:
            raise UserError(
                f"{path}: policy {name!r}: the path {part} leads outside; runs lie beside the file or in the project"
            )
    beside = path.parent / policy.run
    return beside if beside.is_dir() else PROJECT_ROOT / policy.run


def _validated(path: Path) -> Route:
    if not path.is_file():
        raise UserError(f"{path}: no such file; routing.write makes one")
    try:
        return Route.model_validate_json(path.read_bytes())
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        raise UserError(
            f"{path}: {field + ': ' if field else ''}{message}; it is not a route that can be used"
        ) from error
