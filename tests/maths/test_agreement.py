"""Agreement of raters: against the definitions in plain loops, published numbers and the krippendorff package."""

from __future__ import annotations

import krippendorff
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import aggregate_raters
from statsmodels.stats.inter_rater import fleiss_kappa as statsmodels_fleiss

from harken.maths.statistics.agreement import (
    alpha_interval,
    cohen_kappa,
    fleiss_kappa,
    krippendorff_alpha,
    percent_agreement,
    rater_ceiling,
)
from harken.maths.statistics.agreement_intervals import cohen_interval

rating_rows = st.lists(st.lists(st.integers(-2, 2).map(float), max_size=5), max_size=8)


def ceiling_by_definition(rows: list[list[float]]) -> tuple[int, float] | None:
    agreed, cases, used = 0, 0, 0
    for row in rows:
        before = cases
        for i, own in enumerate(row):
            votes = [x for j, x in enumerate(row) if j != i]
            lean = sum(x > 0 for x in votes) - sum(x < 0 for x in votes)
            if own != 0 and lean != 0:
                cases += 1
                agreed += (own > 0) == (lean > 0)
        used += cases > before
    return (used, agreed / cases) if cases else None


@given(rating_rows)
def test_the_ceiling_is_its_definition(rows: list[list[float]]):
    found, wanted = rater_ceiling(rows), ceiling_by_definition(rows)
    if wanted is None:
        assert found is None
        return
    assert found is not None
    assert (found.rows, found.agreement) == (wanted[0], pytest.approx(wanted[1], abs=1e-12))
    assert 0 <= found.low <= found.agreement <= found.high <= 1


def test_raters_that_agree_and_raters_that_guess():
    assert rater_ceiling([[1.0, 2.0, 1.0], [-3.0, -1.0]]).agreement == 1.0
    draw = np.random.default_rng(0)
    guess = rater_ceiling(draw.choice([-1.0, 1.0], (3000, 3)).tolist())
    assert guess.agreement == pytest.approx(0.5, abs=0.02)
    assert guess.low <= 0.5 <= guess.high and guess.cases > 3000


@pytest.mark.parametrize("accuracy", [0.7, 0.9])
def test_two_noisy_raters_agree_as_often_as_both_are_right_or_both_are_wrong(accuracy: float):
    draw = np.random.default_rng(1)
    rows = np.where(draw.random((4000, 2)) < accuracy, 1.0, -1.0)
    want = accuracy**2 + (1 - accuracy) ** 2
    assert rater_ceiling(rows.tolist()).agreement == pytest.approx(want, abs=0.02)


@pytest.mark.parametrize("level", ["ordinal", "nominal", "interval"])
@given(rows=st.lists(st.lists(st.integers(0, 4).map(float), min_size=2, max_size=4), min_size=2, max_size=8))
def test_alpha_equals_the_package(level: str, rows: list[list[float]]):
    found = krippendorff_alpha(rows, level)
    width = max(map(len, rows))
    table = np.array([[*row, *[np.nan] * (width - len(row))] for row in rows]).T
    if found is None:
        assert len(np.unique(table[~np.isnan(table)])) == 1
        return
    wanted = krippendorff.alpha(reliability_data=table, level_of_measurement=level)
    assert found == pytest.approx(wanted, abs=1e-9)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=20))
def test_cohens_kappa_equals_scikit_learn(pairs: list[tuple[int, int]]):
    first, second = zip(*pairs, strict=True)
    found = cohen_kappa(first, second)
    if found is None:
        assert len({*first, *second}) == 1
        return
    assert found == pytest.approx(cohen_kappa_score(first, second), abs=1e-12)


equal_rows = st.integers(2, 4).flatmap(
    lambda n: st.lists(st.lists(st.integers(0, 3), min_size=n, max_size=n), min_size=2, max_size=9)
)


@given(equal_rows)
def test_fleiss_kappa_equals_statsmodels(rows: list[list[int]]):
    found = fleiss_kappa(rows)
    if found is None:
        assert len({name for row in rows for name in row}) == 1
        return
    table = aggregate_raters(np.array(rows))[0]
    assert found == pytest.approx(float(statsmodels_fleiss(table)), abs=1e-12)


def test_fleiss_kappa_of_the_published_example():
    """Fleiss 1971, table 1 as reprinted in most textbooks: 10 subjects, 14 raters, 5 categories, kappa 0.210."""
    counts = [
        (0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1),
        (7, 7, 0, 0, 0), (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7),
    ]  # fmt: skip
    rows = [[category for category, n in enumerate(row) for _ in range(n)] for row in counts]
    assert fleiss_kappa(rows) == pytest.approx(0.210, abs=5e-4)
    with pytest.raises(ValueError, match="same number of ratings"):
        fleiss_kappa([[1, 2], [1, 2, 3]])


def test_percent_agreement_is_over_pairs_of_raters():
    assert percent_agreement([["a", "a"], ["a", "b"], ["a"]]) == 0.5
    assert percent_agreement([["a", "a", "b"]]) == pytest.approx(1 / 3)
    assert percent_agreement([["a"]]) is None


def test_alphas_interval_covers_what_many_rows_show():
    """Two raters who are right with 0.8: 60 rows cover the alpha of 50,000 in about 95 % of studies."""
    draw = np.random.default_rng(3)

    def ratings(rows: int) -> list[list[float]]:
        truth = draw.choice([-1.0, 1.0], (rows, 1))
        return (truth * np.where(draw.random((rows, 2)) < 0.8, 1.0, -1.0)).tolist()

    true = krippendorff_alpha(ratings(50_000))
    covered = 0
    for study in range(150):
        found = alpha_interval(ratings(60), draws=300, seed=study)
        covered += found.low <= true <= found.high
    assert 0.90 <= covered / 150 <= 0.99


def test_alphas_interval_is_no_point_where_raters_always_agree():
    rows = [[1.0, 1.0]] * 10 + [[-1.0, -1.0]] * 10
    found = alpha_interval(rows, "nominal")
    assert (found.value, found.high) == (1.0, 1.0) and 0.5 < found.low < 0.9
    more = alpha_interval(rows * 20, "nominal")
    assert found.low < more.low < 1.0
    one = alpha_interval([[1.0, -1.0]])
    assert (one.low, one.high) == (-1.0, 1.0)
    assert alpha_interval([[1.0, 1.0]]) is None and alpha_interval([[1.0]]) is None


def test_alphas_interval_of_a_few_rows_is_all_there_is():
    """Resamples of five rows miss more often than 5 %: two rows of guessing raters did in a third of studies."""
    rows = [[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [2.0, 2.0], [0.0, 1.0], [1.0, 2.0]]
    few, enough = alpha_interval(rows[:5]), alpha_interval(rows * 2)
    assert (few.low, few.high) == (-1.0, 1.0) and -1.0 < enough.low < enough.value


def test_a_kappa_of_0_that_does_not_vary_is_no_point():
    """One rater always says the same: kappa is 0 in every resample, up to rounding."""
    draw = np.random.default_rng(0)
    found = cohen_interval([0] * 20, [int(x) for x in draw.integers(-1, 2, 20)])
    assert found is not None and found.value == pytest.approx(0) and found.low < -0.2 and found.high > 0.2
