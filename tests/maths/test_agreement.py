"""Agreement of raters: against the definitions in plain loops, published numbers and the krippendorff package."""

from __future__ import annotations

import krippendorff
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harken.maths.statistics.agreement import krippendorff_alpha, rater_ceiling

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


@given(st.lists(st.lists(st.integers(0, 4).map(float), min_size=2, max_size=4), min_size=2, max_size=8))
def test_alpha_equals_the_package(rows: list[list[float]]):
    found = krippendorff_alpha(rows)
    width = max(map(len, rows))
    table = np.array([[*row, *[np.nan] * (width - len(row))] for row in rows]).T
    if found is None:
        assert len(np.unique(table[~np.isnan(table)])) == 1
        return
    wanted = krippendorff.alpha(reliability_data=table, level_of_measurement="ordinal")
    assert found == pytest.approx(wanted, abs=1e-9)
