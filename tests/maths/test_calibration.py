"""Calibration of pair probabilities: against the definitions in plain loops, limits, and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss

from harken.maths.statistics import calibration as c

gap_lists = st.lists(st.integers(-60, 60).map(lambda i: i / 10), min_size=1, max_size=60)


def simulated(n: int, temperature: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Gaps, and labels drawn from σ(gap / temperature)."""
    draw = np.random.default_rng(seed)
    gaps = draw.normal(0, 2, n)
    return gaps, (draw.random(n) < 1 / (1 + np.exp(-gaps / temperature))).astype(float)


@given(gap_lists, st.integers(0, 99))
def test_folding_is_its_definition_and_does_not_depend_on_the_order_of_sides(gaps: list[float], seed: int):
    labels = np.random.default_rng(seed).choice([0.0, 0.3, 1.0], len(gaps))
    confidence, outcome = c.fold_pairs(gaps, labels)
    for i, gap in enumerate(gaps):
        p = 1 / (1 + math.exp(-gap))
        assert confidence[i] == pytest.approx(max(p, 1 - p), abs=1e-12)
        assert outcome[i] == pytest.approx(labels[i] if p >= 0.5 else 1 - labels[i])
    turned, same = c.fold_pairs([-g for g in gaps], 1 - labels)
    assert turned == pytest.approx(confidence, abs=1e-12)
    decided = np.array(gaps) != 0
    assert same[decided] == pytest.approx(outcome[decided])


def test_likelihood_and_brier_equal_scikit_learn():
    gaps, labels = simulated(500)
    p = 1 / (1 + np.exp(-gaps))
    assert c.negative_log_likelihood(gaps, labels) == pytest.approx(log_loss(labels, p), abs=1e-9)
    assert c.brier_score(p, labels) == pytest.approx(brier_score_loss(labels, p), abs=1e-9)
    assert c.brier_score(*c.fold_pairs(gaps, labels)) == pytest.approx(brier_score_loss(labels, p), abs=1e-9)


def test_a_temperature_divides_the_gap():
    assert c.preference_probability([2.0], 4.0)[0] == pytest.approx(1 / (1 + math.exp(-0.5)))
    assert c.fold_pairs([-2.0], [0.0], 4.0)[0][0] == pytest.approx(1 / (1 + math.exp(-0.5)))


def test_limits_of_likelihood_and_brier():
    assert c.negative_log_likelihood([0.0, 0.0], [1.0, 0.4]) == pytest.approx(math.log(2))
    assert c.negative_log_likelihood([1e4], [0.0]) == pytest.approx(1e4)
    assert c.brier_score([0.5, 0.5], [1.0, 0.0]) == 0.25


def test_soft_labels_weight_both_outcomes():
    soft = c.negative_log_likelihood([1.3], [0.7])
    assert soft == pytest.approx(
        0.7 * c.negative_log_likelihood([1.3], [1.0]) + 0.3 * c.negative_log_likelihood([1.3], [0.0])
    )


@pytest.mark.parametrize(("n", "bins"), [(300, 15), (300, 10), (40, 15), (7, 15)])
def test_bins_hold_equally_many_and_enough(n: int, bins: int):
    sizes = np.bincount(c.equal_mass_bins(np.random.default_rng(1).random(n), bins))
    assert len(sizes) == max(min(bins, n // 10), 1)
    assert sizes.max() - sizes.min() <= 1


def test_equal_confidences_share_a_bin():
    index = c.equal_mass_bins([0.6] * 30 + [0.9] * 30, 6)
    assert index.tolist() == [0] * 30 + [1] * 30
    with pytest.raises(ValueError, match="got none"):
        c.equal_mass_bins([])


def test_bins_equal_scikit_learn():
    confidence, outcome = c.fold_pairs(*simulated(300))
    found = c.reliability_bins(confidence, outcome, 10)
    accuracy, mean = calibration_curve(outcome, confidence, n_bins=10, strategy="quantile")
    assert [b.accuracy for b in found] == pytest.approx(accuracy, abs=1e-9)
    assert [b.confidence for b in found] == pytest.approx(mean, abs=1e-9)
    assert all(b.low <= b.accuracy <= b.high for b in found)


def test_murphy_parts_by_definition_and_in_sum():
    confidence, outcome = c.fold_pairs(*simulated(400))
    confidence[confidence < 0.7] = 0.6  # one bin holds more pairs than the others
    parts = c.brier_parts(confidence, outcome, 8)
    index = c.equal_mass_bins(confidence, 8)
    reliability = resolution = 0.0
    for b in range(index.max() + 1):
        inside = index == b
        share = inside.mean()
        reliability += share * (confidence[inside].mean() - outcome[inside].mean()) ** 2
        resolution += share * (outcome[inside].mean() - outcome.mean()) ** 2
    assert parts.reliability == pytest.approx(reliability, abs=1e-12)
    assert parts.resolution == pytest.approx(resolution, abs=1e-12)
    assert parts.uncertainty == pytest.approx(outcome.mean() * (1 - outcome.mean()), abs=1e-12)
    total = parts.reliability - parts.resolution + parts.uncertainty + parts.within_bins
    assert total == pytest.approx(c.brier_score(confidence, outcome), abs=1e-12)


def test_calibration_error_by_definition():
    confidence, outcome = c.fold_pairs(*simulated(450))
    want = sum(
        b.pairs / 450 * abs(b.accuracy - b.confidence) for b in c.reliability_bins(confidence, outcome)
    )
    assert c.calibration_error(confidence, outcome).error == pytest.approx(want, abs=1e-12)


def test_a_calibrated_model_is_within_its_null_and_an_overconfident_one_is_not():
    gaps, labels = simulated(1000)
    good = c.calibration_error(*c.fold_pairs(gaps, labels))
    assert good.p_value > 0.01 and good.null_mean > 0.01
    assert (good.error < good.null_high) == (good.p_value > 0.05)
    bad = c.calibration_error(*c.fold_pairs(3 * gaps, labels))
    assert bad.error > bad.null_high and bad.p_value < 0.01


def test_the_null_rejects_a_calibrated_model_at_its_level():
    """Over 200 calibrated models the p-value is below 0.1 in about a tenth."""
    small = [
        c.calibration_error(*c.fold_pairs(*simulated(150, seed=seed)), draws=99, seed=seed).p_value <= 0.1
        for seed in range(200)
    ]
    assert 8 <= sum(small) <= 36


def test_the_null_shrinks_with_more_pairs():
    few, many = (c.calibration_error(*c.fold_pairs(*simulated(n)), bins=10).null_mean for n in (200, 3200))
    assert few / many == pytest.approx(4, rel=0.2)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_equals_a_logistic_regression(temperature: float):
    gaps, labels = simulated(800, temperature)
    found = c.fit_temperature(gaps, labels)
    fit = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-12, max_iter=1000)
    fit.fit(gaps[:, None], labels)
    assert found == pytest.approx(1 / fit.coef_[0, 0], rel=1e-6)
    assert found == pytest.approx(temperature, rel=0.2)
    best = c.negative_log_likelihood(gaps, labels, found)
    for other in (found * 0.99, found * 1.01):
        assert c.negative_log_likelihood(gaps, labels, other) > best


def test_a_temperature_of_soft_labels():
    gaps = np.linspace(-3, 3, 50)
    labels = 1 / (1 + np.exp(-gaps / 2.5))
    assert c.fit_temperature(gaps, labels) == pytest.approx(2.5, abs=1e-9)


def test_no_temperature_helps_a_model_that_disagrees_and_none_is_too_cold_for_a_perfect_one():
    assert c.fit_temperature([1.0, 2.0], [0.0, 0.0]) is None
    assert c.fit_temperature([0.0, 0.0], [1.0, 1.0]) is None
    assert c.fit_temperature([1.0, 2.0], [1.0, 1.0]) == c.TEMPERATURE_RANGE[0]
    assert c.fit_temperature([1e6, -1e6], [1.0, 0.99999]) == c.TEMPERATURE_RANGE[1]
