"""The clustered Wilson interval: against the plain one, its definition, and by simulated coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harken.maths.statistics.intervals import wilson_interval
from harken.maths.statistics.proportions import clustered_mean_interval, clustered_wilson_interval


@pytest.mark.parametrize("right", [0, 1, 37, 99, 100])
def test_independent_trials_have_the_plain_interval(right: int):
    found = clustered_wilson_interval([1] * right + [0] * (100 - right), [1] * 100)
    assert found == pytest.approx(wilson_interval(right, 100), abs=6e-4)


def test_copies_of_trials_add_nothing():
    right = [1] * 30 + [0] * 20
    once = clustered_wilson_interval(right, [1] * 50)
    assert clustered_wilson_interval([5 * r for r in right], [5] * 50) == pytest.approx(once, abs=1e-12)
    assert clustered_wilson_interval([5] * 50, [5] * 50) == clustered_wilson_interval([1] * 50, [1] * 50)


def test_clusters_that_balance_each_other_do_not_narrow_it():
    plain = clustered_wilson_interval([1, 0] * 100, [1] * 200)
    for right in ([1] * 100, [1] * 98 + [0, 2]):
        assert clustered_wilson_interval(right, [2] * 100) == pytest.approx(plain, abs=1e-3)


def test_by_definition():
    right, n = np.array([3, 0, 2, 1]), np.array([4, 1, 2, 3])
    share = 6 / 10
    variance = 4 / 3 * sum((r - share * m) ** 2 for r, m in zip(right, n, strict=True)) / 100
    effective, z = min(share * (1 - share) / variance, 10), 1.959963984540054
    centre = (share + z * z / 2 / effective) / (1 + z * z / effective)
    half = z * np.sqrt(share * (1 - share) / effective + z * z / 4 / effective**2) / (1 + z * z / effective)
    assert clustered_wilson_interval(right, n) == pytest.approx((centre - half, centre + half), abs=1e-12)


@pytest.mark.parametrize("p", [0.5, 0.9])
def test_coverage_with_clusters(p: float):
    """1,500 studies of 60 prompts with 1 to 5 pairs each, whose chance varies from prompt to prompt."""
    draw, covered, plain = np.random.default_rng(0), 0, 0
    for _ in range(1500):
        n = draw.integers(1, 6, 60)
        right = draw.binomial(n, draw.beta(2 * p, 2 * (1 - p), 60))
        low, high = clustered_wilson_interval(right, n)
        covered += low <= p <= high
        low, high = wilson_interval(int(right.sum()), int(n.sum()))
        plain += low <= p <= high
    assert 0.925 <= covered / 1500 <= 0.97
    assert plain / 1500 < 0.92


@pytest.mark.parametrize(("right", "n"), [([], []), ([0], [0]), ([2], [1]), ([-1], [1]), ([1], [1, 1])])
def test_it_refuses_what_is_no_proportion(right: list[int], n: list[int]):
    with pytest.raises(ValueError, match="a proportion needs"):
        clustered_wilson_interval(right, n)


def test_independent_values_have_the_t_interval():
    x = np.random.default_rng(2).normal(1.0, 2.0, 30)
    found = clustered_mean_interval(x, np.arange(30))
    wanted = stats.t.interval(0.95, 29, loc=x.mean(), scale=x.std(ddof=1) / np.sqrt(30))
    assert (found.low, found.high) == pytest.approx(wanted, abs=1e-9)


def test_the_mean_interval_by_definition():
    x, names = [1.0, 2.0, 4.0, 9.0, 0.0], ["a", "b", "a", "c", "b"]
    mean = 16 / 5
    sums = [sum(v - mean for v, n in zip(x, names, strict=True) if n == name) for name in "abc"]
    half = stats.t.ppf(0.975, 2) * np.sqrt(3 / 2 * sum(s * s for s in sums)) / 5
    found = clustered_mean_interval(x, names)
    assert (found.mean, found.low, found.high) == pytest.approx((mean, mean - half, mean + half), abs=1e-9)
    twice = clustered_mean_interval(x * 3, names * 3)
    assert (twice.low, twice.high) == pytest.approx((found.low, found.high), abs=1e-9)


def test_one_cluster_says_nothing_about_its_error():
    assert clustered_mean_interval([1.0, 3.0], [0, 0]).high == np.inf
    with pytest.raises(ValueError, match="at least one value"):
        clustered_mean_interval([], [])
