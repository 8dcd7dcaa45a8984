"""The handoff's stop table, and what else is watched, as rules that judge the metrics logged so far.

A rule is a row of data (what it watches, what is expected, when to stop) and one small pure function. Steps are the
handoff's at 600 and scale with the length of the run; lengths scale with the completion limit. A rule can `warn` or
`stop`; the callback that applies it writes an event with the status's message.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from helpers.core.errors import require_known
from helpers.tasks import TASKS

State = Literal["ok", "watch", "triggered", "ignored", "no data"]
Action = Literal["warn", "stop"]
Finding = tuple[State, float | None, str]
Point = tuple[int, float]

HANDOFF_STEPS = 600
HANDOFF_LIMIT = 512
EXTRACTION_BASELINE = 0.17
"""The handoff's V4 calibration of the hub model; for another policy, the start of its own V4 run."""
BASELINE_METRIC = "eval/extraction_under_v4"
"""Where a run logs, at step 0, what V4's parser would have paid for the base policy's extractions."""
NEAR = 0.03
"""Within this of a reference value counts as "still at" it: the handoff's 0.20 for a baseline of 0.17."""
_NO_DATA: Finding = ("no data", None, "nothing logged yet")


@dataclass(frozen=True)
class Watch:
    """What a rule may look at: the metric rows so far (each with `step`) and the run's fixed numbers.

    `limit` is the completion limit in tokens, `extraction_baseline` V4's extraction reward before training. Where the
    run is shown the prompts of one task alone, `only_task` names it.
    """

    history: Sequence[Mapping[str, Any]]
    max_steps: int
    limit: int = HANDOFF_LIMIT
    beta: float = 0.0
    extraction_baseline: float = EXTRACTION_BASELINE
    only_task: str = ""

    def values(self, key: str) -> list[Point]:
        """(step, value) of every logged value of `key`, in order; what is not a number counts as NaN."""
        return [(int(row["step"]), _number(row[key])) for row in self.history if row.get(key) is not None]

    def recent(self, points: Sequence[Point]) -> list[Point]:
        """The points of the latest 20 steps of 600, at least 10 steps."""
        return [point for point in points if point[0] > points[-1][0] - max(10, self.at(20))]

    def at(self, handoff_step: int) -> int:
        """The step of this run that stands where `handoff_step` stands in 600.

        >>> Watch([], max_steps=600).at(130), Watch([], max_steps=150).at(100)
        (130, 25)
        """
        return round(handoff_step * self.max_steps / HANDOFF_STEPS)

    def tokens(self, handoff_tokens: int) -> int:
        """The completion length that stands where `handoff_tokens` stands in 512."""
        return round(handoff_tokens * self.limit / HANDOFF_LIMIT)


def _plateau(watch: Watch, points: list[Point]) -> Finding:
    """No new best since step 130 of 600, once step 200 and two evaluations since 130 have passed.

    Past step 400, where the handoff no longer expects a rise, it is only watched.
    """
    step, value = points[-1]
    turn = watch.at(130)
    before = [point for point in points if point[0] <= turn]
    since = [point for point in points if point[0] > turn]
    if not before or not since:
        return "ok", value, f"{value:.3f} at step {step}; judged from step {watch.at(200)} on"
    old, new = (max(part, key=lambda point: point[1]) for part in (before, since))
    message = f"best since step {turn}: {new[1]:.3f} (step {new[0]}); before: {old[1]:.3f} (step {old[0]})"
    plateau, judged = not new[1] > old[1], watch.at(200) <= step <= watch.at(400)
    return _state(plateau and judged and len(since) > 1, plateau), value, message


def _extraction(watch: Watch, points: list[Point]) -> Finding:
    """Two evaluations in a row below baseline + 0.03 after step 100; one could be chance (20 prompts, +-0.11)."""
    step, value = points[-1]
    floor = watch.extraction_baseline + NEAR
    message = f"{value:.3f} at step {step}, against {floor:.2f}; {watch.extraction_baseline:.2f} at the start"
    latest = [reward for at, reward in points if at > watch.at(100)][-2:]
    stuck = len(latest) == 2 and all(reward < floor for reward in latest)
    return _state(stuck, not value >= floor), value, message


def _length(watch: Watch, points: list[Point]) -> Finding:
    value, since = _mean_since(watch.recent(points))
    message = f"{value:.0f} tokens per completion on average since step {since}, limit {watch.limit}"
    expected = watch.tokens(100) <= value <= watch.tokens(400)
    return _state(value >= 0.98 * watch.limit, not expected), value, message


def _zero_std(watch: Watch, points: list[Point]) -> Finding:
    recent = watch.recent(points)
    value, since = _mean_since(recent)
    message = f"{value:.0%} of the groups since step {since} had equal rewards: nothing to learn from them"
    return _state(value > 0.5 and len(recent) >= max(10, watch.at(20)), not value < 0.2), value, message


def _grad_norm(watch: Watch, points: list[Point]) -> Finding:
    recent = watch.recent(points)
    step, peak = max(recent, key=lambda point: point[1] if math.isfinite(point[1]) else math.inf)
    if not peak <= 2.0:
        return "triggered", peak, f"{peak:.3g} at step {step}"
    value, since = _mean_since(recent)
    return (
        _state(False, not 0.05 <= value <= 0.5),
        value,
        f"{value:.3g} on average since step {since}, at most {peak:.3g}",
    )


def _kl(watch: Watch, points: list[Point]) -> Finding:
    value = points[-1][1] if points else None
    if watch.beta == 0:
        return "ignored", value, "beta is 0: KL is not part of the loss"
    return ("ok", value, f"beta {watch.beta}") if points else _NO_DATA


def _clipped(watch: Watch, points: list[Point]) -> Finding:
    value, since = _mean_since(watch.recent(points))
    message = f"{value:.0%} of the completions since step {since} were cut at the limit of {watch.limit} tokens"
    return _state(value > 0.5, value > 0.2), value, message


def _entropy(watch: Watch, points: list[Point]) -> Finding:
    (start, _), (value, _) = _mean_since(points[:10]), _mean_since(watch.recent(points))
    share = value / start if start > 0 else 1.0
    return _state(share < 0.1, not 0.3 <= share <= 1.5), value, f"{value:.3g} now, {start:.3g} at the start"


def _engine(watch: Watch, points: list[Point]) -> Finding:
    """0.03 is what rounding to bfloat16 explains (`preflight.tolerance`); wrong weights move log-probs by tenths."""
    recent = watch.recent(points)
    value, since = _mean_since(recent)
    ratios = watch.values("train/importance_ratio")
    ratio = f"; importance ratio {ratios[-1][1]:.3f} on average" if ratios else ""
    message = f"{value:.2g} per token on average since step {since}{ratio}"
    return _state(not value <= 0.1 and len(recent) >= min(10, watch.max_steps), not value <= 0.03), value, message


def _reward_errors(watch: Watch, points: list[Point]) -> Finding:
    count = points[-1][1] if points else 0.0
    return _state(bool(count), False), count, f"{count:.0f} reward calls failed; events.jsonl names each"


def _prompts_seen(watch: Watch, points: list[Point]) -> Finding:
    tasks = [watch.only_task] if watch.only_task else TASKS
    seen = {task: logged[-1] for task in tasks if (logged := watch.values(f"train/prompts_seen/{task}"))}
    if not seen:
        return _NO_DATA
    task = min(seen, key=lambda name: seen[name][1])
    step, count = max(step for step, _ in seen.values()), seen[task][1]
    unseen = count == 0 and step >= watch.at(100)
    return _state(False, unseen), count, f"{task} has shown {count:.0f} prompts by step {step}"


def _repairs(watch: Watch, points: list[Point]) -> Finding:
    start, (step, value) = points[0][1], points[-1]
    message = f"{value:.0%} of the extraction answers needed a repair at step {step}, {start:.0%} at the start"
    return _state(False, value > start + 0.1), value, message


def _state(triggered: bool, watched: bool) -> State:
    return "triggered" if triggered else "watch" if watched else "ok"


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _mean_since(points: Sequence[Point]) -> tuple[float, int]:
    """The mean of the finite values (NaN without any), and the step of the first point."""
    finite = [value for _, value in points if math.isfinite(value)]
    return (sum(finite) / len(finite) if finite else math.nan), points[0][0]


@dataclass(frozen=True)
class StopRule:
    """One row of the table. `expected` and `stop_if` may hold `{step130}` or `{tokens100}`, scaled to the run."""

    name: str
    metric: str
    label: str
    expected: str
    stop_if: str
    check: Callable[[Watch, list[Point]], Finding]
    needs_data: bool = True
    from_handoff: bool = True


RULES: tuple[StopRule, ...] = (
    StopRule(
        "mean_reward",
        "eval/mean_reward",
        "Mean evaluation reward",
        "improves past step {step130}, on to about step {step400}",
        "plateaus before step {step200}, as V4 did",
        _plateau,
    ),
    StopRule(
        "extraction",
        "eval/extraction",
        "Extraction reward in evaluation",
        "jumps well above {baseline}, the start under V4's parser",
        "still below {stuck} after step {step100}",
        _extraction,
    ),
    StopRule(
        "completion_length",
        "train/completion_length",
        "Completion length (tokens)",
        "{tokens100} to {tokens400}",
        "hits the limit of {tokens512}",
        _length,
    ),
    StopRule(
        "zero_std",
        "train/frac_reward_zero_std",
        "Groups without any reward difference",
        "below 0.2",
        "above 0.5 for some time",
        _zero_std,
    ),
    StopRule(
        "grad_norm", "train/grad_norm", "Gradient norm", "0.05 to 0.5 (hub model)", "spikes above 2.0", _grad_norm
    ),
    StopRule("kl", "train/kl", "KL to the base policy", "any value", "never", _kl, needs_data=False),
    StopRule(
        "clipped",
        "train/clipped_ratio",
        "Completions cut at the limit",
        "below 0.2",
        "above 0.5 for some time",
        _clipped,
        from_handoff=False,
    ),
    StopRule(
        "entropy",
        "train/entropy",
        "Entropy of the policy",
        "falls slowly",
        "below a tenth of its start",
        _entropy,
        from_handoff=False,
    ),
    StopRule(
        "engine",
        "train/logp_difference",
        "Log-probabilities, engine against trainer",
        "below 0.03",
        "above 0.1 for some time",
        _engine,
        from_handoff=False,
    ),
    StopRule(
        "reward_errors",
        "train/reward_errors",
        "Failed reward calls",
        "none",
        "any",
        _reward_errors,
        needs_data=False,
        from_handoff=False,
    ),
    StopRule(
        "prompts_seen",
        "train/prompts_seen/<task>",
        "Prompts of the least seen task",
        "every task is seen",
        "never; watched when a task is unseen at step {step100}",
        _prompts_seen,
        needs_data=False,
        from_handoff=False,
    ),
    StopRule(
        "repairs",
        "eval/repaired_share/extraction",
        "Extraction answers that needed a repair",
        "falls or stays",
        "never; watched when it rises by 0.1",
        _repairs,
        from_handoff=False,
    ),
)
"""The handoff's six rows, in its order, then what we watch beside them."""


@dataclass(frozen=True)
class RuleStatus:
    """What a rule says: its state, the value it judged, and a sentence with the numbers behind it."""

    rule: StopRule
    state: State
    value: float | None
    message: str
    step: int
    action: Action
    expected: str
    stop_if: str

    @property
    def stops(self) -> bool:
        """Whether the run should end here."""
        return self.state == "triggered" and self.action == "stop"


def evaluate_rules(
    history: Sequence[Mapping[str, Any]],
    max_steps: int,
    actions: Mapping[str, Action] | None = None,
    **settings: Any,
) -> list[RuleStatus]:
    """Judge the metrics logged so far by every rule, in the table's order.

    `actions` maps rule names to `warn` (default) or `stop`; `settings` are the fixed numbers of `Watch`. Raises
    `UserError` for an unknown name.
    """
    actions = actions or {}
    for name, action in actions.items():
        require_known("stop rule", name, tuple(rule.name for rule in RULES))
        require_known("action", action, ("warn", "stop"))
    watch = Watch(history, max_steps, **settings)
    return [_judge(rule, watch, actions.get(rule.name, "warn")) for rule in RULES]


def _judge(rule: StopRule, watch: Watch, action: Action) -> RuleStatus:
    points = watch.values(rule.metric)
    state, value, message = rule.check(watch, points) if points or not rule.needs_data else _NO_DATA
    step = max((int(row["step"]) for row in watch.history), default=0)
    words = {f"step{at}": str(watch.at(at)) for at in (100, 130, 200, 400)}
    words |= {f"tokens{count}": str(watch.tokens(count)) for count in (100, 400, HANDOFF_LIMIT)}
    baseline = watch.extraction_baseline
    words |= {"baseline": f"{baseline:.2f}", "stuck": f"{baseline + NEAR:.2f}"}
    expected, stop_if = rule.expected.format(**words), rule.stop_if.format(**words)
    return RuleStatus(rule, state, value, message, step, action, expected, stop_if)


def rule_history(
    history: Sequence[Mapping[str, Any]], max_steps: int, **settings: Any
) -> list[tuple[int, list[RuleStatus]]]:
    """What every rule would have said at each evaluation, with only the rows logged by then."""
    steps = sorted({int(row["step"]) for row in history if row.get("eval/mean_reward") is not None})
    return [
        (step, evaluate_rules([row for row in history if row["step"] <= step], max_steps, **settings)) for step in steps
    ]


def status_panel(statuses: Iterable[RuleStatus]) -> list[dict[str, str]]:
    """The table's rows as text: Watched, Value, Expected, Stop if, State, Because."""
    return [
        {
            "Watched": status.rule.label,
            "Value": "-" if status.value is None else f"{status.value:.3g}",
            "Expected": status.expected,
            "Stop if": status.stop_if,
            "State": status.state if status.state != "triggered" else f"triggered ({status.action})",
            "Because": status.message,
        }
        for status in statuses
    ]


def status_line(statuses: Sequence[RuleStatus]) -> str:
    """One line for a terminal: value and state of each handoff row, then of any other that is not well."""
    shown = [status for status in statuses if status.rule.from_handoff or status.state in ("watch", "triggered")]
    values = [
        f"{status.rule.name} {'' if status.value is None else f'{status.value:.3g} '}{status.state}" for status in shown
    ]
    return " | ".join([f"step {max((status.step for status in statuses), default=0)}", *values])
