"""Intervals of kappas and habits of raters: against plain loops, scipy, and simulated raters of known habits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, fisher_exact

from harken.maths.statistics.agreement import cohen_kappa, fleiss_kappa, percent_agreement
from harken.maths.statistics.agreement_intervals import (
    cohen_interval,
    fleiss_interval,
    percent_agreement_interval,
)
from harken.maths.statistics.majority import majority_accuracy, rater_accuracy
from harken.maths.statistics.rater_habits import adjust_p_values, drift_between_halves, leaning

DRAWS = 400


def ratings(seed: int, rows: int, raters: int = 3, accuracy: float = 0.8) -> list[list[int]]:
    draw = np.random.default_rng(seed)
    truth = draw.integers(0, 3, (rows, 1))
    wrong = (truth + draw.integers(1, 3, (rows, raters))) % 3
    return np.where(draw.random((rows, raters)) < accuracy, truth, wrong).tolist()


FIGURES = {
    "percent": (percent_agreement, percent_agreement_interval),
    "fleiss": (fleiss_kappa, fleiss_interval),
    "cohen": (
        lambda rows: cohen_kappa([a for a, *_ in rows], [b for _, b, *_ in rows]),
        lambda rows, draws, seed=0: cohen_interval(
            [a for a, *_ in rows], [b for _, b, *_ in rows], draws, seed
        ),
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_intervals_are_those_of_resampled_rows(name: str):
    """The figure of resampled rows, computed by the plain function, has the quantiles that the interval has."""
    plain, interval = FIGURES[name]
    rows = ratings(0, 150)
    found = interval(rows, draws=2000)
    assert found.value == plain(rows) and found.rows == 150
    draw = np.random.default_rng(7)
    again = [plain([rows[i] for i in draw.integers(0, 150, 150)]) for _ in range(2000)]
    spread = np.std(again)
    assert found.low == pytest.approx(np.quantile(again, 0.025), abs=0.25 * spread)
    assert found.high == pytest.approx(np.quantile(again, 0.975), abs=0.25 * spread)


@pytest.mark.parametrize("name", FIGURES)
def test_intervals_cover_what_many_rows_show(name: str):
    plain, interval = FIGURES[name]
    true = plain(ratings(99, 20_000))
    covered = sum(
        (found := interval(ratings(seed, 60), draws=DRAWS)).low <= true <= found.high for seed in range(100)
    )
    assert 88 <= covered <= 100


@pytest.mark.parametrize("name", FIGURES)
def test_perfect_agreement_and_few_rows_are_no_point(name: str):
    _, interval = FIGURES[name]
    perfect = interval([[0, 0, 0], [1, 1, 1]] * 20, draws=DRAWS)
    assert perfect.value == perfect.high == 1.0 and 0.7 < perfect.low < 1.0
    few = interval([[0, 0, 1], [1, 1, 1], [0, 1, 1]], draws=DRAWS)
    assert few.high - few.low >= 1.0


def test_figures_that_are_not_defined_have_no_interval():
    assert percent_agreement_interval([[1], []]) is None
    assert cohen_interval([1, 1], [1, 1]) is None
    assert fleiss_interval([[1, 1], [1, 1]]) is None


def test_drift_is_fishers_test_of_two_halves():
    cases = [True] * 8 + [False] * 2 + [None] + [True] * 2 + [False] * 9
    found = drift_between_halves(cases)
    assert (found["first_half"]["count"], found["first_half"]["n"]) == (8, 10)
    assert (found["second_half"]["count"], found["second_half"]["n"]) == (2, 11)
    assert found["p"] == pytest.approx(fisher_exact([[8, 2], [2, 9]]).pvalue)
    assert drift_between_halves([None, True])["p"] is None


def test_a_leaning_is_what_departs_from_the_others():
    """Rows on which both chose the same, or one chose nothing, do not count."""
    own = [True, True, True, False, True, None, True]
    others = [False, False, False, True, True, True, None]
    found = leaning(own, others)
    assert (found["count"], found["n"]) == (3, 4)
    assert found["p"] == pytest.approx(binomtest(3, 4).pvalue)
    assert leaning([True], [True]) is None


def test_a_rater_with_a_habit_leans_and_one_who_is_only_noisy_does_not():
    draw = np.random.default_rng(5)
    truth = draw.random(2000) < 0.5
    others = [bool(t) != bool(draw.random() < 0.1) for t in truth]
    noisy = [bool(t) != bool(draw.random() < 0.3) for t in truth]
    habitual = [True if draw.random() < 0.2 else bool(t) for t in truth]
    assert leaning(noisy, others)["p"] > 0.05
    found = leaning(habitual, others)
    assert found["value"] > 0.6 and found["p"] < 1e-6


def test_p_values_are_adjusted_together():
    figures = [{"p": 0.01}, None, {"p": None}, {"p": 0.04}]
    adjust_p_values(figures)
    assert figures[0]["holm_p"] == pytest.approx(0.02) and figures[3]["holm_p"] == pytest.approx(0.04)
    assert "holm_p" not in figures[2]


@pytest.mark.parametrize("accuracy", [0.55, 0.7, 0.95])
def test_agreement_tells_the_accuracy_of_raters_who_err_independently(accuracy: float):
    assert rater_accuracy(accuracy**2 + (1 - accuracy) ** 2) == pytest.approx(accuracy)
    assert rater_accuracy(0.49) is None


@pytest.mark.parametrize("raters", [1, 3, 5])
def test_the_majority_is_right_as_often_as_all_outcomes_say(raters: int):
    """Sum the probability of every outcome in which more than half of the raters are right."""
    total = 0.0
    for outcome in np.ndindex(*[2] * raters):
        if sum(outcome) > raters / 2:
            total += float(np.prod([0.7 if right else 0.3 for right in outcome]))
    assert majority_accuracy(0.7, raters) == pytest.approx(total)
    with pytest.raises(ValueError, match="odd number"):
        majority_accuracy(0.7, raters + 1)
