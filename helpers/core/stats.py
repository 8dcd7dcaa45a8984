"""How sure a mean is: bootstrap intervals over prompts, paired differences, and how many prompts a decision needs.

The unit of every interval is the prompt. Several completions of one prompt are averaged first (`by_prompt`): they share
the prompt's difficulty, and counting them as independent would make intervals too narrow.
"""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy import stats as distributions

DRAWS = 10_000
LEVEL = 0.95
_DRAWS_AT_ONCE = 1_000

Values = Sequence[float] | np.ndarray
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Interval:
    """A mean, the interval around it, and the number of prompts behind it.

    No prompts: all three are NaN. One prompt: the mean is known, its interval is not (NaN).

    >>> print(Interval(0.472, 0.441, 0.503, 65))
    0.472 [0.441, 0.503]
    """

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def above(self, threshold: float) -> bool:
        """Whether the whole interval lies at or above `threshold`."""
        return self.low >= threshold

    def below(self, threshold: float) -> bool:
        """Whether the whole interval lies under `threshold`."""
        return self.high < threshold

    def signed(self) -> str:
        """The interval of a difference, with its signs.

        >>> Interval(0.17, 0.15, 0.19, 260).signed()
        '+0.170 [+0.150, +0.190]'
        """
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"

    def percent(self) -> str:
        """The interval of a share, in percent.

        >>> Interval(0.92, 0.85, 0.984, 65).percent()
        '92 % [85, 98]'
        """
        return f"{100 * self.mean:.0f} % [{100 * self.low:.0f}, {100 * self.high:.0f}]"


def bootstrap_mean(values: Values, draws: int = DRAWS, seed: int = 0, level: float = LEVEL) -> Interval:
    """The mean of `values` (one per prompt) and its bootstrap interval.

    Percentiles of the means of `draws` resamples, at levels widened for small samples ("expanded percentile",
    Hesterberg 2015, The American Statistician 69:371). Where all values are equal the interval has no width.
    Raises `ValueError` where a value is not finite.

    >>> interval = bootstrap_mean([0.2, 0.4, 0.6, 0.8] * 10)
    >>> round(interval.mean, 3), interval.n
    (0.5, 40)
    """
    return stratified_mean({"all": values}, draws=draws, seed=seed, level=level)


def paired_difference(
    before: Values, after: Values, draws: int = DRAWS, seed: int = 0, level: float = LEVEL
) -> Interval:
    """The mean of `after - before` and its interval; both hold the same prompts in the same order.

    Prompts differ far more from each other than a policy does from its base, so the interval of the differences is much
    narrower than that of either mean. Raises `ValueError` where the lengths differ.
    """
    if len(before) != len(after):
        raise ValueError(f"paired values have the same length; got {len(before)} and {len(after)}")
    return bootstrap_mean(np.asarray(after, float) - np.asarray(before, float), draws=draws, seed=seed, level=level)


def stratified_mean(
    strata: Mapping[str, Values],
    weights: Mapping[str, float] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = LEVEL,
) -> Interval:
    """The weighted mean over strata (tasks) and its interval, prompts resampled within each stratum.

    Without `weights` a stratum counts as many times as it has prompts, which gives the plain mean over all prompts.
    The eval set holds a fixed number of prompts per task: resampling across tasks would add a spread that no
    repetition of the evaluation has.
    """
    sizes = {name: float(len(values)) for name, values in strata.items() if len(values)}
    raw = sizes if weights is None else {name: weights[name] for name in sizes}
    total = sum(raw.values())
    return _weighted_sum(strata, {name: weight / total for name, weight in raw.items()}, draws, seed, level)


def unpaired_difference(
    before: Values, after: Values, draws: int = DRAWS, seed: int = 0, level: float = LEVEL
) -> Interval:
    """The difference of the means of two independent samples, `after` minus `before`, and its interval.

    For values of different prompts, such as those of two tasks; the same prompts call for `paired_difference`.
    Where either sample is empty, all is NaN.
    """
    if not (len(before) and len(after)):
        return Interval(math.nan, math.nan, math.nan, 0)
    return _weighted_sum({"before": before, "after": after}, {"before": -1.0, "after": 1.0}, draws, seed, level)


def by_prompt(prompt_ids: Iterable[Key], values: Iterable[float]) -> dict[Key, float]:
    """The mean value of each prompt, in order of first appearance; one completion or several per prompt.

    >>> by_prompt(["a", "b", "a"], [0.0, 1.0, 0.5])
    {'a': 0.25, 'b': 1.0}
    """
    samples: dict[Key, list[float]] = {}
    for prompt_id, value in zip(prompt_ids, values, strict=True):
        samples.setdefault(prompt_id, []).append(value)
    return {prompt_id: sum(scores) / len(scores) for prompt_id, scores in samples.items()}


def prompts_to_decide(values: Values, threshold: float, level: float = LEVEL, power: float = 0.8) -> int | None:
    """How many prompts would separate the mean of `values` from `threshold`, if mean and spread stay as they are.

    The two-sided sample size of a mean, n = ((z_level + z_power) * sd / gap)^2: at that size `power` of all evaluations
    have an interval that leaves the threshold out. `None` where there is no gap to resolve or no spread to measure.

    >>> prompts_to_decide([0.3, 0.5, 0.7] * 20, threshold=0.55)
    86
    """
    data = _checked("values", values)
    if len(data) < 2 or data.min() == data.max() or data.mean() == threshold:
        return None
    z = distributions.norm.ppf(0.5 + level / 2) + distributions.norm.ppf(power)
    return max(2, math.ceil((z * data.std(ddof=1) / abs(data.mean() - threshold)) ** 2))


def _weighted_sum(
    groups: Mapping[str, Values], coefficients: Mapping[str, float], draws: int, seed: int, level: float
) -> Interval:
    """The sum of `coefficients[name]` times each group's mean, every group resampled on its own."""
    data = {name: _checked(name, values) for name, values in groups.items() if len(values)}
    n = sum(len(values) for values in data.values())
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    mean = float(sum(coefficients[name] * values.mean() for name, values in data.items()))
    if n == len(data):
        return Interval(mean, math.nan, math.nan, n)
    rng = np.random.default_rng(seed)
    means = sum(coefficients[name] * _resampled_means(values, draws, rng) for name, values in data.items())
    tail = _expanded_tail(n, freedom=n - len(data), level=level)
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(mean, float(low), float(high), n)


def _checked(name: str, values: Values) -> np.ndarray:
    data = np.asarray(values, dtype=float)
    if not np.isfinite(data).all():
        raise ValueError(f"{name}: {int((~np.isfinite(data)).sum())} of {len(data)} values are not finite numbers")
    return data


def _resampled_means(values: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    sizes = [min(_DRAWS_AT_ONCE, draws - done) for done in range(0, draws, _DRAWS_AT_ONCE)]
    n = len(values)
    return np.concatenate([values[rng.integers(n, size=(size, n))].mean(axis=1) for size in sizes])


def _expanded_tail(n: int, freedom: int, level: float) -> float:
    """The share of resampled means to cut off each end: Student's t for the normal, and n - 1 for n in the variance."""
    t = distributions.t.ppf(0.5 + level / 2, freedom)
    return float(distributions.norm.cdf(-math.sqrt(n / freedom) * t))
