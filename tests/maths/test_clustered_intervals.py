"""Intervals of shares and means of clustered rows: definitions, coverage, and data that do not vary."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harken.maths.statistics.bootstrap import bca_interval, percentile_interval, resample_ratios
from harken.maths.statistics.intervals import (
    clustered_jeffreys,
    clustered_mean_interval,
    unvaried_interval,
    wilson_interval,
)
from harken.maths.statistics.length_control import length_controlled_win_rate
from harken.maths.statistics.overoptimisation import fit_gao
from harken.maths.statistics.paired import hodges_lehmann


def test_clusters_that_balance_each_other_are_no_more_rows_than_there_are():
    plain = clustered_jeffreys([1, 0] * 50 + [0] * 100, [1] * 200)
    for right in ([1] * 50 + [0] * 50, [1] * 48 + [0] * 51 + [2]):
        found = clustered_jeffreys(right, [2] * 100)
        assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=2e-3)
    # Halves vary less than 0 and 1: 199 ties of 200 rows say more than 200 tosses of a coin.
    few = clustered_jeffreys([0.5] * 199 + [1], [1] * 200, halves=True)
    assert few.high - few.low < 0.02 < plain.high - plain.low


@pytest.mark.parametrize("p", [0.5, 0.9])
def test_coverage_with_clusters(p: float):
    """1,500 studies of 60 prompts with 1 to 5 pairs each, whose chance varies from prompt to prompt."""
    draw, covered, plain = np.random.default_rng(0), 0, 0
    for _ in range(1500):
        n = draw.integers(1, 6, 60)
        right = draw.binomial(n, draw.beta(2 * p, 2 * (1 - p), 60))
        found = clustered_jeffreys(right, n)
        covered += found.low <= p <= found.high
        low, high = wilson_interval(int(right.sum()), int(n.sum()))
        plain += low <= p <= high
    assert 0.925 <= covered / 1500 <= 0.97
    assert plain / 1500 < 0.92


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


# Data that do not vary


@pytest.mark.parametrize("units", [1, 2, 30, 2017])
def test_the_bound_of_equal_values_is_the_exact_limit_of_a_rate_without_a_case(units):
    share = stats.binomtest(0, units, alternative="less").proportion_ci(0.95, method="exact").high
    found = unvaried_interval(0.0, units, (-1.0, 1.0))
    assert (found.mean, found.low, found.high) == (0.0, pytest.approx(-share), pytest.approx(share))
    # A share u of the units at the other end of the range moves the mean by u times the way there.
    found = unvaried_interval(1.0, units, (-1.0, 1.0))
    assert (found.low, found.high) == (pytest.approx(1 - 2 * share), 1.0)
    assert unvaried_interval(0.3, units, None).bounds == (None, None)
    assert share <= 3 / units


def test_the_bound_of_equal_values_covers():
    """Of 4,000 studies of 40 units with a difference in few of them, the bound is missed in at most 5 %."""
    draw, missed = np.random.default_rng(0), 0
    for share in (0.02, 0.07, 0.08):
        values = draw.random((4000, 40)) < share
        for row in values[~values.any(axis=1)][:1]:
            found = unvaried_interval(float(row.mean()), 40, (-1.0, 1.0))
            missed += (not found.low <= share <= found.high) * float((~values.any(axis=1)).mean())
    assert missed <= 0.05


@pytest.mark.parametrize("values", [[0.7], [0.7] * 5, [0.0] * 40, [0.1] * 40])
def test_a_mean_of_equal_values_has_no_interval(values):
    for found in (
        clustered_mean_interval(values, np.arange(len(values))),
        clustered_mean_interval([*values, *values], [0] * 2 * len(values)),
    ):
        assert found.bounds == (None, None) and found.mean == pytest.approx(values[0])
    replicates = resample_ratios(np.array(values)[:, None], np.ones((len(values), 1)), 50, 0)
    for clusters in (None, len(values)):
        assert percentile_interval(replicates, clusters=clusters) == (-np.inf, np.inf)
        assert bca_interval(values[0], replicates, values, clusters=clusters) == (-np.inf, np.inf)


def test_a_mean_within_limits_has_a_bound_where_its_values_are_equal():
    found = clustered_mean_interval([0.0] * 30, np.arange(30), limits=(-1.0, 1.0))
    assert (found.low, found.high) == pytest.approx((-(1 - 0.05 ** (1 / 30)), 1 - 0.05 ** (1 / 30)))


def test_a_few_differences_have_no_hodges_lehmann_interval():
    """The signed-rank test of 5 differences has no p below 2 / 32, so at 95 % it rejects no shift."""
    x = np.random.default_rng(0).normal(size=12)
    for n in range(1, 13):
        smallest_p = stats.wilcoxon(np.arange(1.0, n + 1), method="exact").pvalue
        bounds = hodges_lehmann(x[:n]).bounds
        assert (bounds == (None, None)) == (smallest_p > 0.05)
        assert (hodges_lehmann([2.0] * n).bounds == (None, None)) == (2 ** (-n / 2) > 0.05)
    assert hodges_lehmann(x, clusters=np.arange(12) % 3).bounds == (None, None)


@pytest.mark.parametrize("outcome", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("clusters", [np.arange(40), np.zeros(40), np.arange(80)])
def test_equal_outcomes_leave_the_length_controlled_rate_as_uncertain_as_the_rate(outcome, clusters):
    n = len(clusters)
    lengths = np.random.default_rng(0).normal(size=n)
    found = length_controlled_win_rate([outcome] * n, lengths, clusters, draws=50).win_rate
    low, high = wilson_interval(n // 2, n) if outcome == 0.5 else wilson_interval(round(n * outcome), n)
    if len(set(clusters)) == 1:
        low, high = (0.0, 0.79) if outcome == 0 else (0.21, 1.0) if outcome == 1 else (0.05, 0.95)
    assert found.low <= low + 0.01 and found.high >= high - 0.01 and found.low <= found.mean <= found.high


def test_a_curve_through_every_point_has_no_interval():
    kl = np.array([1.0, 2.0, 4.0, 9.0])
    for gain in (np.zeros(4), np.sqrt(kl) * (2 - 0.5 * np.sqrt(kl))):
        found = fit_gao(kl, gain, "best_of_n")
        assert found is not None and found.alpha_interval == found.beta_interval == (-np.inf, np.inf)
        assert found.peak_interval == (None if found.peak is None else (0.0, np.inf))


def test_no_interval_of_a_mean_goes_beyond_the_limits_of_its_values():
    values = [1.0, 1.0, 0.0, 1.0, 1.0, 0.0]
    free, bounded = (
        clustered_mean_interval(values, range(6), limits=limits) for limits in (None, (0.0, 1.0))
    )
    assert free.high > 1.0 and bounded.high == 1.0 and bounded.low == free.low
