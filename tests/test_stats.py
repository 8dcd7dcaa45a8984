import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from helpers.core import stats


def rewards(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).beta(2, 2.5, size=n)


def test_the_interval_agrees_with_scipy_at_the_same_tail() -> None:
    values = rewards(65)
    tail = stats._expanded_tail(65, freedom=64, level=0.95)
    theirs = scipy_stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=20_000,
        method="percentile",
        confidence_level=1 - 2 * tail,
        rng=np.random.default_rng(1),
    ).confidence_interval
    ours = stats.bootstrap_mean(values, draws=20_000)
    spread = values.std(ddof=1) / math.sqrt(65)
    assert ours.low == pytest.approx(theirs.low, abs=0.05 * spread)
    assert ours.high == pytest.approx(theirs.high, abs=0.05 * spread)


def test_a_large_sample_gets_the_plain_percentile_interval() -> None:
    assert stats._expanded_tail(100_000, freedom=99_999, level=0.95) == pytest.approx(0.025, abs=1e-5)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    values = rewards(20)
    assert stats.bootstrap_mean(values, seed=3) == stats.bootstrap_mean(values, seed=3)
    assert stats.bootstrap_mean(values, seed=3) != stats.bootstrap_mean(values, seed=4)


@pytest.mark.parametrize("sizes", [(15,), (20, 15, 15, 15), (65, 65, 65, 65)])
def test_nominal_95_percent_intervals_cover_the_truth_93_to_97_percent_of_the_time(sizes: tuple[int, ...]) -> None:
    shapes = [(2, 2.5), (1, 3), (4, 2), (3, 3)]
    rng = np.random.default_rng(7)
    truth = np.average([a / (a + b) for a, b in shapes[: len(sizes)]], weights=sizes)
    covered = 0
    for trial in range(1_000):
        strata = {str(i): rng.beta(*shapes[i], size=n) for i, n in enumerate(sizes)}
        interval = stats.stratified_mean(strata, draws=1_000, seed=trial)
        covered += interval.low <= truth <= interval.high
    assert 930 <= covered <= 970


def test_paired_differences_are_narrower_than_the_difference_of_means() -> None:
    before = rewards(65)
    after = np.clip(before + 0.05 + 0.02 * np.random.default_rng(1).standard_normal(65), 0, 1)
    gain = stats.paired_difference(before, after)
    assert gain.low > 0
    assert stats.bootstrap_mean(after).low < stats.bootstrap_mean(before).high


def test_pairs_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="3 and 2"):
        stats.paired_difference([1, 2, 3], [1, 2])


def test_without_weights_the_stratified_mean_is_the_plain_mean() -> None:
    strata = {"extraction": rewards(20), "push": rewards(15, seed=1)}
    assert stats.stratified_mean(strata).mean == pytest.approx(np.concatenate(list(strata.values())).mean())


def test_weights_make_strata_count_as_told() -> None:
    strata = {"extraction": [0.0] * 90 + [0.2] * 10, "push": [1.0] * 9 + [0.8]}
    equal = stats.stratified_mean(strata, weights={"extraction": 1, "push": 1})
    assert equal.mean == pytest.approx((0.02 + 0.98) / 2)


def test_strata_that_differ_only_between_each_other_add_no_width() -> None:
    interval = stats.stratified_mean({"a": [0.0] * 10, "b": [1.0] * 10})
    assert (interval.low, interval.high) == (0.5, 0.5)


def test_no_prompt_or_one_prompt_gives_no_interval() -> None:
    none, one = stats.bootstrap_mean([]), stats.bootstrap_mean([0.4])
    assert none.n == 0 and math.isnan(none.mean)
    assert one.mean == 0.4 and math.isnan(one.low) and not one.above(0) and not one.below(1)


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="1 of 3"):
        stats.bootstrap_mean([0.1, math.nan, 0.3])


def test_more_completions_of_a_prompt_do_not_count_as_more_prompts() -> None:
    means = stats.by_prompt(["a", "a", "b"], [0.2, 0.4, 1.0])
    assert stats.bootstrap_mean(list(means.values())).n == 2


def test_the_number_of_prompts_said_to_decide_does_decide_four_times_in_five() -> None:
    pilot = rewards(4_000)
    threshold = pilot.mean() + 0.05
    n = stats.prompts_to_decide(pilot, threshold)
    assert n is not None
    decided = sum(
        stats.bootstrap_mean(rewards(n, seed=100 + trial), draws=1_000).below(threshold) for trial in range(400)
    )
    assert 0.74 <= decided / 400 <= 0.86


def test_no_number_of_prompts_decides_a_mean_on_the_threshold() -> None:
    assert stats.prompts_to_decide([0.25, 0.75], threshold=0.5) is None


def test_the_unpaired_difference_of_equal_samples_straddles_zero_and_of_distant_ones_does_not() -> None:
    assert stats.unpaired_difference(rewards(20), rewards(15, seed=1)).low < 0
    gap = stats.unpaired_difference(rewards(20), rewards(15, seed=1) + 0.5)
    assert gap.low > 0 and gap.mean == pytest.approx(rewards(15, seed=1).mean() + 0.5 - rewards(20).mean())


def test_a_difference_from_nothing_is_not_a_number() -> None:
    for before, after in (([], [1.0, 2.0, 3.0]), ([1.0, 2.0, 3.0], []), ([], [])):
        nothing = stats.unpaired_difference(before, after)
        assert nothing.n == 0 and math.isnan(nothing.mean) and math.isnan(nothing.low) and math.isnan(nothing.high)


@pytest.mark.parametrize(("value", "threshold"), [(0.5, 0.4), (0.1, 0.1)])
def test_values_without_a_spread_do_not_say_how_many_prompts_would_decide(value: float, threshold: float) -> None:
    assert stats.prompts_to_decide([value] * 10, threshold) is None
