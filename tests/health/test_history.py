"""The series that rules read."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harken.health.history import History, welch_t

VALUES = st.lists(st.floats(-100, 100).map(lambda x: round(x, 3)), min_size=2, max_size=20)


def history(name: str, values: list[float]) -> History:
    made = History()
    for step, value in enumerate(values, 1):
        made.add(step, {name: value})
    return made


@pytest.mark.filterwarnings("ignore:Precision loss")
@given(VALUES, VALUES)
def test_standard_errors_are_welchs_t(before: list[float], after: list[float]) -> None:
    if len(set(before)) == 1 and len(set(after)) == 1:
        return
    wanted = stats.ttest_ind(after, before, equal_var=False).statistic
    assert welch_t(before, after) == pytest.approx(float(wanted), rel=1e-6, abs=1e-6)


def test_series_that_do_not_vary() -> None:
    assert welch_t([1.0, 1.0], [1.0, 1.0]) == 0.0
    assert welch_t([1.0, 1.0], [2.0, 2.0]) == math.inf
    assert welch_t([1.0, 1.0], [0.0, 0.0]) == -math.inf


def test_levels_of_the_latest_and_of_the_first_values() -> None:
    made = history("x", [1.0, 2.0, 9.0, 4.0, 5.0, 60.0])
    assert made.median("x", 3) == 5.0
    assert made.mean("x", 2) == 32.5
    assert made.start("x", 3) == 2.0
    assert made.median("x", 7) is None
    assert made.mean("x", 7) is None
    assert made.mean("y", 1) is None


def test_the_start_is_not_compared_with_itself() -> None:
    assert history("x", [1.0, 2.0, 3.0, 4.0, 5.0]).start("x", 3) is None


def test_non_finite_numbers_are_no_values() -> None:
    made = History()
    made.add(1, {"a": math.nan, "b": 1.0, "c": None, "health/status": 2.0})
    assert made.nonfinite == ("a",)
    assert (made.values("a"), made.values("b"), made.values("c")) == ([], [1.0], [])
    assert made.values("health/status") == []
    made.add(2, {"a": None, "b": 2.0, "nonfinite": ["a"]})
    assert made.nonfinite == ("a",)
    made.add(3, {"a": 3.0})
    assert made.nonfinite == ()
    assert (made.step, made.lines, made.values("b")) == (3, 3, [1.0, 2.0])


def test_values_since_the_policy_learns() -> None:
    made = History()
    for step, warming in enumerate([1.0, 1.0, 0.0, 0.0], 1):
        made.add(step, {"reward/mean": float(step), "critic/warming_up": warming})
    assert made.after_warmup("reward/mean") == [3.0, 4.0]
