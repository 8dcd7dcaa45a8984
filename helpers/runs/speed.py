"""How fast a run was: its step reports read back, and the time and cost that its first steps predict.

A record from before a key was logged still reads; what it lacks is "not recorded".
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats as distributions

from helpers.core.errors import UserError
from helpers.core.stats import LEVEL, Interval
from helpers.runs.load import Run
from helpers.runs.record import PHASES, phase_key
from helpers.tasks import TASKS

FIRST = 20
"""A prediction reads this many steps; the first of a run is left out, because it also warms up."""
NOT_RECORDED = "not recorded"
PHASE_LABELS: dict[str, str] = {
    "generation": "Generating completions",
    "rewards": "Rewards",
    "log_probs": "Forward passes for log-probs and loss",
    "backward": "Backward passes",
    "optimiser": "Optimiser",
    "sync": "Weights to vLLM",
    "eval": "Evaluation between steps",
    "other": "Everything else",
}
_STEP = "time/step_s"


@dataclass(frozen=True)
class Prediction:
    """What `steps` steps with their evaluations take in seconds, and cost; `usd` is `None` where no price is known."""

    steps: int
    seconds: Interval
    usd: Interval | None

    def __str__(self) -> str:
        cost = f", {_cost(self.usd)}" if self.usd else ""
        return f"{self.steps} steps: {_duration(self.seconds)}{cost}"


def phase_seconds(run: Run) -> pd.DataFrame:
    """Seconds by training step (rows) and phase (columns); no columns where the record holds no step reports."""
    keys = {phase_key(phase): phase for phase in PHASES if phase_key(phase) in run.metrics}
    return run.metrics[list(keys)].dropna(how="all").rename(columns=keys)


def predict(run: Run, steps: int = 100) -> Prediction:
    """The time and cost of `steps` steps, from at most `FIRST` steps after the run's first.

    The interval is Student's prediction interval for the mean of `steps` future steps; it cannot know that completions
    may grow longer as the policy learns. Evaluations are added as often as the run has them, each as long as the run's
    first. The price is the profile's `usd_per_hour`. Raises `UserError` where fewer than two such steps were recorded.
    """
    seen = run.series(_STEP).to_numpy()[1 : 1 + FIRST]
    if len(seen) < 2:
        raise UserError(f"{run.where}: {len(run.series(_STEP))} timed steps; a prediction needs at least 3")
    one_step = mean_of_next(seen, steps)
    evaluations = _evaluation_seconds(run, steps, slice(1))
    low, mean, high = (value * steps + evaluations for value in (one_step.low, one_step.mean, one_step.high))
    seconds = Interval(mean, max(0.0, low), high, len(seen))
    price = run.config.get("profile", {}).get("usd_per_hour", 0.0) / 3600
    usd = Interval(seconds.mean * price, seconds.low * price, seconds.high * price, seconds.n) if price else None
    return Prediction(steps, seconds, usd)


def taken(run: Run, steps: int = 100) -> float:
    """Seconds that `steps` steps and the evaluations between them took on average: what `predict` foretold."""
    return float(run.series(_STEP).mean()) * steps + _evaluation_seconds(run, steps, slice(None))


def _evaluation_seconds(run: Run, steps: int, which: slice) -> float:
    """Seconds of the subset's evaluations in `steps` steps, each as long as the mean of `which`; 0 where not timed."""
    timed = [row["time/eval_s"] for row in run.history if "eval/mean_reward" in row and "time/eval_s" in row][which]
    return sum(timed) / len(timed) / run.eval_every * steps if timed and run.eval_every else 0.0


def mean_of_next(seen: Sequence[float] | np.ndarray, count: int) -> Interval:
    """The mean of `count` future values, from independent ones seen: mean +- t * s * sqrt(1/n + 1/count).

    >>> print(mean_of_next([1.0, 2.0, 3.0], 100))
    2.000 [-0.521, 4.521]
    """
    n, mean = len(seen), float(np.mean(seen))
    width = distributions.t.ppf((1 + LEVEL) / 2, n - 1) * np.std(seen, ddof=1) * math.sqrt(1 / n + 1 / count)
    return Interval(mean, mean - float(width), mean + float(width), n)


def seconds_spent(run: Run) -> tuple[float, float]:
    """Seconds of all training steps, and of all evaluations, whole splits included; 0 where not recorded."""
    steps, evaluations = (sum(row.get(key, 0.0) for row in run.history) for key in (_STEP, "time/eval_s"))
    return steps, evaluations


def evaluation_share(run: Run) -> float:
    """Seconds of evaluation, whole splits included, as a share of all steps and evaluations; NaN where not recorded."""
    steps, evaluations = seconds_spent(run)
    return evaluations / (steps + evaluations) if steps else math.nan


def phase_table(run: Run) -> pd.DataFrame:
    """The run's step reports as one table of text: phases first, then what they add up to. Columns What, Value, Share.

    A phase's value is its mean over the steps, its share that of all steps and the evaluations between them.
    """
    seconds = phase_seconds(run)
    whole = seconds.to_numpy().sum() if len(seconds) else math.nan
    rows = [
        (label, _text(seconds[phase].mean(), "{:.3f} s"), _text(seconds[phase].sum() / whole, "{:.1%}"))
        if phase in seconds
        else (label, NOT_RECORDED, "")
        for phase, label in PHASE_LABELS.items()
    ]
    rows += [(label, value, "") for label, value in _summary(run)]
    return pd.DataFrame(rows, columns=["What", "Value", "Share"])


def _summary(run: Run) -> list[tuple[str, str]]:
    seen = sum(run.series(f"train/prompts_seen/{task}").max() for task in TASKS)
    rows = [
        ("A whole step, evaluation left out", _text(run.series(_STEP).mean(), "{:.3f} s")),
        ("Generated tokens per second", _text(run.series("time/tokens_per_s").median(), "{:,.0f}")),
        ("Evaluation's share of the run, whole splits included", _text(evaluation_share(run), "{:.1%}")),
        ("Padding waste of the training batches", _text(run.series("train/padding_waste").mean(), "{:.1%}")),
        ("Groups whose rewards are all equal", _text(run.series("train/frac_reward_zero_std").mean(), "{:.1%}")),
        ("Peak memory", _text(run.series("time/peak_memory_gib").max(), "{:.2f} GiB")),
        ("Prompts seen", _text(seen, "{:,.0f}")),
    ]
    if len(run.series(_STEP)) < 3:
        return [*rows, ("100 steps, predicted", NOT_RECORDED)]
    predicted = predict(run, 100)
    price = _cost(predicted.usd) if predicted.usd else "no price known for this profile"
    return [*rows, ("100 steps, predicted", _duration(predicted.seconds)), ("100 steps, predicted cost", price)]


def _text(value: float, form: str) -> str:
    return NOT_RECORDED if math.isnan(value) else form.format(value)


def _duration(seconds: Interval) -> str:
    """Seconds with their interval in the unit that reads best.

    >>> _duration(Interval(240, 180, 300, 20))
    '4.0 min [3.0, 5.0]'
    """
    size, unit = (3600, "h") if seconds.mean >= 7200 else (60, "min") if seconds.mean >= 120 else (1, "s")
    return f"{seconds.mean / size:.1f} {unit} [{seconds.low / size:.1f}, {seconds.high / size:.1f}]"


def _cost(usd: Interval) -> str:
    return f"{usd.mean:.2f} USD [{usd.low:.2f}, {usd.high:.2f}]"
