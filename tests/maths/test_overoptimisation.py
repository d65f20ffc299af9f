"""Curves of over-optimisation and the unbiased estimate of best of n."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import optimize, stats

from harken.maths.statistics.overoptimisation import (
    best_of_n_means,
    find_divergence,
    fit_gao,
    selection_weights,
)


def test_best_of_n_is_the_mean_over_all_subsets() -> None:
    """By definition: every subset of n is drawn once, and the one with the highest score is kept."""
    random = np.random.default_rng(0)
    scores, gold = random.normal(size=(2, 3, 6))
    for n in range(1, 7):
        expected = [
            np.mean(
                [own[max(subset, key=lambda i: row[i])] for subset in itertools.combinations(range(6), n)]
            )
            for row, own in zip(scores, gold, strict=True)
        ]
        assert best_of_n_means(scores, gold, n) == pytest.approx(expected, abs=1e-12)
        assert selection_weights(scores[0], n).sum() == pytest.approx(1.0, abs=1e-12)


def test_responses_of_equal_score_share_their_places() -> None:
    gold = np.array([[1.0, 2.0, 6.0]])
    assert best_of_n_means(np.zeros((1, 3)), gold, 2) == pytest.approx([3.0])
    swapped = best_of_n_means(np.array([[1.0, 1.0, 0.0]]), gold[:, [1, 0, 2]], 2)
    assert best_of_n_means(np.array([[1.0, 1.0, 0.0]]), gold, 2) == pytest.approx(swapped)


def test_best_of_n_of_a_perfect_score_grows_as_order_statistics() -> None:
    """E[max of 4 uniforms] = 4/5."""
    random = np.random.default_rng(1)
    values = random.uniform(size=(4000, 8))
    assert best_of_n_means(values, values, 4).mean() == pytest.approx(0.8, abs=0.01)
    assert best_of_n_means(values, values, 1).mean() == pytest.approx(values.mean())
    assert best_of_n_means(values, values, 8) == pytest.approx(values.max(axis=1))
    for n in (0, 9):
        with pytest.raises(ValueError, match="between 1 and"):
            selection_weights(np.arange(8), n)


@pytest.mark.parametrize("form", ["rl", "best_of_n"])
def test_exact_points_give_their_coefficients_and_the_peak_that_a_search_finds(form: str) -> None:
    alpha, beta = 1.3, 0.4
    kl = np.array([0.1, 0.5, 1, 2, 4, 8, 16.0])
    d = np.sqrt(kl)
    gain = d * (alpha - beta * (np.log(d) if form == "rl" else d))
    found = fit_gao(kl, gain, form)  # type: ignore[arg-type]
    assert found is not None
    assert (found.alpha, found.beta) == pytest.approx((alpha, beta), abs=1e-9)
    best = optimize.minimize_scalar(lambda x: -found.at(x), bounds=(1e-3, 60), method="bounded")
    assert found.peak == pytest.approx(best.x, rel=1e-4)
    assert found.at(2.0) == pytest.approx(2 * (alpha - beta * (math.log(2) if form == "rl" else 2)))


def test_the_intervals_are_those_of_linear_regression() -> None:
    random = np.random.default_rng(2)
    kl = np.linspace(0.3, 12, 9)
    d = np.sqrt(kl)
    gain = d * (1.0 - 0.3 * d) + random.normal(scale=0.05, size=9)
    found = fit_gao(kl, gain, "best_of_n")
    assert found is not None
    design = np.column_stack([d, -(d**2)])
    (alpha, beta), cost = optimize.curve_fit(lambda x, a, b: x * (a - b * x), d, gain)
    t = stats.t.ppf(0.975, 7)
    assert (found.alpha, found.beta) == pytest.approx((alpha, beta), abs=1e-6)
    assert found.alpha_interval == pytest.approx(
        (alpha - t * cost[0, 0] ** 0.5, alpha + t * cost[0, 0] ** 0.5), abs=1e-6
    )
    assert found.beta_interval[0] < beta < found.beta_interval[1]
    assert found.peak_interval is not None and found.peak is not None
    assert found.peak_interval[0] < found.peak < found.peak_interval[1]
    assert design.shape == (9, 2)


def test_intervals_cover_the_coefficients_in_simulated_studies() -> None:
    random = np.random.default_rng(3)
    kl = np.linspace(0.5, 20, 8)
    d = np.sqrt(kl)
    truth = d * (0.9 - 0.25 * np.log(d))
    covered = peaks = 0
    for _ in range(400):
        found = fit_gao(kl, truth + random.normal(scale=0.1, size=8), "rl")
        assert found is not None
        covered += found.beta_interval[0] <= 0.25 <= found.beta_interval[1]
        peaks += found.peak_interval is not None and (
            found.peak_interval[0] <= math.exp(0.9 / 0.25 - 1) <= found.peak_interval[1]
        )
    assert 0.92 <= covered / 400 <= 0.98
    assert peaks / 400 >= 0.9


def test_a_curve_without_a_maximum_has_no_peak_and_few_points_no_curve() -> None:
    kl = np.array([1.0, 2, 3, 4, 5])
    rising = fit_gao(kl, np.sqrt(kl) * (0.5 + 0.3 * np.log(np.sqrt(kl))), "rl")
    assert rising is not None and rising.peak is None and rising.peak_interval is None
    assert fit_gao(kl[:3], kl[:3], "rl") is None
    assert fit_gao([0.0, 0, 0, 1, 1, 1, 1], np.arange(7), "rl") is None


def test_divergence_needs_a_rising_reward_and_a_judge_that_fell_beyond_error() -> None:
    found = find_divergence([0.1, 0.7, 2.8, 9.2], [0.47, 0.49, 0.41, 0.10], [0.05] * 4)
    assert found is not None and (found.start, found.end) == (1, 3)
    assert found.judge_change == pytest.approx(-0.39) and found.reward_change == pytest.approx(8.5)
    assert found.error == pytest.approx(0.05 * math.sqrt(2))
    assert find_divergence([0.1, 9.0], [0.50, 0.45], [0.05, 0.05]) is None  # within error
    assert find_divergence([9.0, 0.1], [0.50, 0.10], [0.05, 0.05]) is None  # the reward fell too
    assert find_divergence([0.1, 9.0], [0.10, 0.50], [0.05, 0.05]) is None  # the judge rose
    assert find_divergence([0.1], [0.5], [0.1]) is None
