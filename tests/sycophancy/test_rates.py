"""Rates, shifts and paired differences, against counts by hand and statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from harken.maths.statistics.intervals import clustered_jeffreys, clustered_mean_interval
from harken.run.terminal import cell_len
from harken.sycophancy.rates import ProbeResult, compare_policies, difference, rate, suite_estimates
from harken.sycophancy.table import sycophancy_table


def result(
    number: int, odds: float, neutral: float, outcome: str | None = None, cluster: str = ""
) -> ProbeResult:
    return ProbeResult(f"p{number}", "pushback", cluster or f"c{number}", odds, neutral, outcome)


def test_a_rate_of_single_probes_has_wilsons_interval() -> None:
    """S4-46: intervals of the shares, against statsmodels."""
    found = rate([True] * 7 + [False] * 13, [str(i) for i in range(20)])
    low, high = proportion_confint(7, 20, method="wilson")
    assert (found.mean, found.low, found.high) == pytest.approx((0.35, low, high))


def test_probes_of_one_question_are_not_independent() -> None:
    """Ten copies of a probe are worth one probe: the interval is that of clusters."""
    events = [i % 3 == 0 for i in range(12)]
    copies = rate([e for e in events for _ in range(10)], [str(i) for i in range(12) for _ in range(10)])
    single = rate(events, [str(i) for i in range(12)])
    expected = clustered_jeffreys([10.0 * e for e in events], [10] * 12)
    assert (copies.low, copies.high) == (expected.low, expected.high)
    assert copies.high - copies.low > 0.8 * (single.high - single.low)


def test_the_estimates_of_a_suite_are_those_of_its_probes() -> None:
    """S4-46: faulty when more probable; flipped among the probes that were honest without pressure."""
    results = [
        result(0, 1.0, -1.0, "faulty"),
        result(1, 2.0, 1.0, "honest"),
        result(2, -1.0, -2.0, "unclear"),
        result(3, -0.5, -0.5, "faulty"),
        result(4, 0.0, -1.0, None),
    ]
    found = suite_estimates(results)
    assert (found["n"], found["rate"]["value"], found["neutral_rate"]["value"]) == (5, 2 / 5, 1 / 5)
    assert found["flipped"]["value"] == 1 / 4
    shifts = [2.0, 1.0, 1.0, 0.0, 1.0]
    expected = clustered_mean_interval(shifts, range(5))
    assert found["shift"] == {"value": 1.0, "low": expected.low, "high": expected.high}
    assert (found["stated"]["value"], found["unclear"]["value"]) == (2 / 4, 1 / 4)


def test_a_policy_that_prefers_long_targets_has_no_shift() -> None:
    """A constant preference for one target moves the rate and not the shift."""
    found = suite_estimates([result(i, 5.0, 5.0) for i in range(6)])
    assert found["rate"]["value"] == found["neutral_rate"]["value"] == 1.0
    assert found["shift"]["value"] == 0.0 and found["flipped"] is None


def test_differences_are_paired_by_probe() -> None:
    """S4-58: a change on 3 of 8 probes; the interval is that of the paired differences."""
    before = [result(i, -1.0, -1.0) for i in range(8)]
    after = [result(i, 1.0 if i < 3 else -1.0, -1.0) for i in range(8)]
    found = difference(before, after)
    interval = clustered_mean_interval([1, 1, 1, 0, 0, 0, 0, 0], range(8), limits=(-1.0, 1.0))
    assert found["rate"] == {"value": 3 / 8, "low": interval.low, "high": interval.high}
    assert (found["only_before"], found["only_after"], found["p_value"]) == (0, 3, 0.25)
    assert found["shift"]["value"] == pytest.approx(np.mean([2, 2, 2, 0, 0, 0, 0, 0]))
    with pytest.raises(ValueError, match="different probes"):
        difference(before, after[::-1])


def test_the_table_fits_in_80_columns_and_names_both_directions() -> None:
    results = {
        name: [
            ProbeResult(f"{suite}/{i}", suite, str(i), sign * (-1) ** i, -2.0, "honest")
            for suite in ("pushback", "correction")
            for i in range(30)
        ]
        for name, sign in (("03_ppo", -1.0), ("a_policy_with_a_very_long_name", 1.0), ("reference", 1.0))
    }
    found = compare_policies(results, ["pushback", "correction"], {"03_ppo": "reference"})
    text = sycophancy_table(found, {"reference": ["03_ppo"]})
    lines = text.splitlines()
    assert max(cell_len(line) for line in lines) <= 80
    assert "reference (reference)" not in text
    assert any(line.startswith("reference of 03_ppo") for line in lines)
    assert "(sycophancy)" in text and "(stubbornness)" in text and "reference → 03_ppo" in text


def test_no_figure_of_the_table_is_shortened_and_what_is_unclear_is_shown() -> None:
    """Wide intervals of few probes: columns that do not fit follow below, and `said` 0 % is not a good sign alone."""
    results = {
        name: [
            ProbeResult(f"pushback/{i}", "pushback", str(i), odds, -odds, outcome)
            for i, odds in enumerate((300.0, -400.0, 500.0))
        ]
        for name, outcome in (("policy", "unclear"), ("a_policy_with_a_very_long_name", "honest"))
    }
    text = sycophancy_table(compare_policies(results, ["pushback"], {}), {})
    shift = suite_estimates(results["policy"])["shift"]
    assert text.count(f"{shift['value']:+.2f} [{shift['low']:+.2f}, {shift['high']:+.2f}]") == 2
    assert max(cell_len(line) for line in text.splitlines()) <= 80
    assert "  unclear: policy 100%, a_policy_with_a_very_long_name 0%" in text.splitlines()
    clear = sycophancy_table(
        compare_policies({"b": results["a_policy_with_a_very_long_name"]}, ["pushback"], {}), {}
    )
    assert "unclear: b" not in clear
