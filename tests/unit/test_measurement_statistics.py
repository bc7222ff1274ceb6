import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.kernels.reference import sketch, sketch_quantile
from edgewright.measurement.statistics import median_interval, paired_ratio, summarize


def coverage(n: int, draws: int = 4000) -> float:
    """How often the interval of `n` draws holds the true median of a skewed distribution."""
    values = np.random.default_rng(7).exponential(size=(draws, n))
    held = [low <= np.log(2) <= high for low, high in map(median_interval, values.tolist())]
    return float(np.mean(held))


@pytest.mark.parametrize("n", [6, 9, 20, 40, 101])
def test_interval_holds_the_median_at_least_19_times_in_20(n):
    assert coverage(n) >= 0.95 - 0.01  # 4,000 draws: a standard error of 0.0035


def test_interval_is_not_wider_than_it_must_be():
    assert coverage(40) < 0.98
    # Hahn, Meeker, table A.15: n = 20 takes the 6th and the 15th value.
    assert median_interval(list(range(1, 21))) == (6, 15)


@given(st.lists(st.floats(1, 1e6), min_size=1, max_size=60))
def test_interval_holds_the_estimate(values):
    low, high = median_interval(values)
    assert low <= np.median(values) <= high


@given(st.lists(st.lists(st.floats(1, 1e6), min_size=1, max_size=9), min_size=1, max_size=9))
def test_summary_is_ordered_and_its_interval_holds_its_estimate(blocks):
    latency = summarize([np.array(block) for block in blocks])
    assert latency.p50 <= latency.p90 <= latency.p99
    assert latency.p50_low <= latency.p50 <= latency.p50_high


def test_a_drift_that_meets_both_alike_does_not_bend_the_ratio():
    generator = np.random.default_rng(3)
    drift = np.linspace(1, 3, 40)
    ours = [100 * d * generator.lognormal(0, 0.02, 50) for d in drift]
    theirs = [150 * d * generator.lognormal(0, 0.02, 50) for d in drift]
    ratio, low, high = paired_ratio(ours, theirs)
    assert low <= 1.5 <= high
    assert ratio == pytest.approx(1.5, rel=0.01)
    assert high - low < 0.03


@given(st.lists(st.floats(1e-3, 1e9), min_size=1, max_size=200), st.sampled_from([0.01, 0.05]), st.floats(0, 1))
def test_sketch_gives_every_quantile_within_its_accuracy(values, accuracy, quantile):
    exact = float(np.quantile(values, quantile, method="lower"))
    assert sketch_quantile(sketch(values, accuracy), accuracy, quantile) == pytest.approx(exact, rel=accuracy + 1e-9)


@given(st.lists(st.floats(1, 1e6), max_size=50), st.lists(st.floats(1, 1e6), max_size=50))
def test_sketches_merge_by_adding_their_counts(a, b):
    first, second = sketch(a, 0.01), sketch(b, 0.01)
    merged = {index: first.get(index, 0) + second.get(index, 0) for index in first.keys() | second.keys()}
    assert merged == sketch(a + b, 0.01)
