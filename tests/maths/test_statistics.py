import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harken.maths.statistics import bootstrap
from harken.maths.statistics.intervals import clustered_mean_interval, wilson_interval
from harken.maths.statistics.paired import sign_test

Bounds = tuple[float, float]


def bootstrap_mean(
    values: Sequence[float], draws: int = 10_000, seed: int = 0, confidence: float = 0.95
) -> Bounds:
    """The plain percentile interval of a mean of independent values."""
    column = np.asarray(values)[:, None]
    replicates = bootstrap.resample_ratios(column, np.ones_like(column), draws, seed)
    return bootstrap.percentile_interval(replicates, confidence)


GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "statistics.json").read_text())


@pytest.mark.parametrize(
    "case", GOLDEN["wilson"], ids=lambda c: f"{c['successes']}of{c['n']}at{c['confidence']}"
)
def test_wilson_agrees_with_statsmodels(case):
    interval = wilson_interval(case["successes"], case["n"], case["confidence"])
    assert interval == pytest.approx(case["interval"], abs=1e-9)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_bounds_are_the_shares_the_score_test_just_accepts(case):
    """The definition: at each bound p, |share - p| = z sqrt(p (1 - p) / n)."""
    successes, n = case
    low, high = wilson_interval(successes, n)
    share = successes / n
    assert 0 <= low <= share <= high <= 1
    for bound in (low, high):
        assert abs(share - bound) == pytest.approx(
            1.959963984540054 * math.sqrt(bound * (1 - bound) / n), abs=1e-9
        )


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (5, 4), (-1, 4)])
def test_wilson_refuses_what_is_no_proportion(successes, n):
    with pytest.raises(ValueError, match="a proportion needs"):
        wilson_interval(successes, n)


@pytest.mark.parametrize("case", GOLDEN["sign_test"], ids=lambda c: f"{c['wins']}to{c['losses']}")
def test_sign_test_agrees_with_scipy(case):
    assert sign_test(case["wins"], case["losses"]) == pytest.approx(case["p"], rel=1e-9)


@given(st.integers(0, 14), st.integers(0, 14))
def test_sign_test_is_the_definition(wins, losses):
    """The share of all outcomes of fair tosses that are at least as lopsided."""
    n, lopsided = wins + losses, abs(wins - losses)
    as_far = sum(math.comb(n, k) for k in range(n + 1) if abs(2 * k - n) >= lopsided)
    assert sign_test(wins, losses) == pytest.approx(as_far / 2**n)
    assert sign_test(wins, losses) == sign_test(losses, wins)


def test_sign_test_refuses_negative_counts():
    with pytest.raises(ValueError, match="counts"):
        sign_test(-1, 3)


def test_bootstraps_agree_with_scipy():
    """To the noise of resampling: SciPy's 200,000 draws against 20,000 of ours."""
    data = GOLDEN["bootstrap"]
    one = bootstrap_mean(data["left"], draws=20_000)
    pair = bootstrap_mean(np.subtract(data["right"], data["left"]), draws=20_000)
    assert list(one) == pytest.approx(data["mean_of_left"], abs=0.03)
    assert list(pair) == pytest.approx(data["mean_of_difference"], abs=0.008)


def test_the_bootstrap_draws_what_its_definition_draws():
    """The same resampling a draw at a time: every bound is a quantile of means with replacement."""
    values = [1.0, 2.0, 4.0, 8.0, 16.0]
    # All 5^5 resamples, so the exact bootstrap distribution.
    exact = np.array(np.meshgrid(*[values] * 5)).reshape(5, -1).mean(axis=0)
    low, high = bootstrap_mean(values, draws=50_000, confidence=0.9)
    assert low == pytest.approx(np.quantile(exact, 0.05), abs=0.21)
    assert high == pytest.approx(np.quantile(exact, 0.95), abs=0.21)


def test_the_bootstrap_interval_is_about_the_normal_one():
    values = np.random.default_rng(0).normal(10.0, 2.0, 400)
    low, high = bootstrap_mean(values)
    reach = 1.96 * values.std() / 20
    assert (high - low) / 2 == pytest.approx(reach, rel=0.05)
    assert low < values.mean() < high


def test_more_confidence_is_a_wider_interval():
    values = np.random.default_rng(0).normal(size=50)
    narrow, wide = bootstrap_mean(values, confidence=0.8), bootstrap_mean(values, confidence=0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_the_seed_decides(monkeypatch):
    values = np.random.default_rng(0).normal(size=30)
    first = bootstrap_mean(values, draws=500, seed=1)
    assert first == bootstrap_mean(values, draws=500, seed=1)
    assert first != bootstrap_mean(values, draws=500, seed=2)
    monkeypatch.setattr(bootstrap, "BOOTSTRAP_BLOCK", 300)
    assert first == bootstrap_mean(values, draws=500, seed=1), "the size of a block is no part of the result"


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_an_interval_refuses_what_has_no_mean(values):
    with pytest.raises(ValueError, match="a mean needs"):
        clustered_mean_interval(values, np.arange(len(values)))
