"""The ranges in the charts are the health monitor's thresholds."""

from __future__ import annotations

import itertools

import pytest

from harken.explorer.bands import bands
from harken.explorer.charts import chart_data
from harken.explorer.page_health import health_data
from harken.health.limits import Limits

LIMITS = Limits()


def at(metric: str, value: float) -> str | None:
    """The label of the range that a value is in."""
    for band in bands(metric):
        low, high = band["low"], band["high"]
        if (low is None or value >= low) and (high is None or value < high):
            return str(band["label"])
    return None


@pytest.mark.parametrize(
    ("metric", "healthy", "warning", "unhealthy"),
    [
        ("kl/mean", LIMITS.kl_warning - 1, LIMITS.kl_warning + 1, LIMITS.kl_unhealthy + 1),
        ("policy/clipfrac", 0.1, LIMITS.clip_warning + 0.01, LIMITS.clip_unhealthy + 0.01),
        ("value/explained_var", LIMITS.explained_warning + 0.1, 0.1, LIMITS.explained_unhealthy - 0.1),
        ("policy/entropy", LIMITS.entropy_unhealthy + 0.1, None, LIMITS.entropy_unhealthy - 0.01),
        ("reward/length_correlation", 0.2, LIMITS.length_correlation + 0.1, None),
        ("logps/chosen_change", 0.0, LIMITS.chosen_warning - 0.1, LIMITS.chosen_unhealthy - 0.1),
    ],
)
def test_a_value_is_in_the_range_of_the_monitor(
    metric: str, healthy: float, warning: float | None, unhealthy: float | None
) -> None:
    for label, value in (("healthy", healthy), ("warning", warning), ("unhealthy", unhealthy)):
        if value is not None:
            assert at(metric, value) == label


def test_ranges_join_without_gaps_and_are_open_at_both_ends() -> None:
    for metric in ("kl/mean", "policy/entropy", "value/explained_var"):
        found = bands(metric)
        assert found[0]["low"] is None and found[-1]["high"] is None
        assert all(one["high"] == other["low"] for one, other in itertools.pairwise(found))


def test_a_metric_without_thresholds_has_no_ranges() -> None:
    assert bands("loss") == []
    drawn = chart_data("ppo", [{"step": 1, "kl/mean": 1.0, "reward/mean": 0.0}])
    assert {chart["title"]: bool(chart["bands"]) for chart in drawn} == {
        "Reward": False, "KL from the reference": True,
    }  # fmt: skip


def test_a_finding_has_its_episode_and_the_metric_that_shows_it() -> None:
    """The KL rises above the limits of two findings at step 4, and is back from step 9 on: one of them is shown."""
    kl = [1.0] * 3 + [30.0] * 5 + [1.0] * 6
    metrics = [{"step": step, "kl/mean": value} for step, value in enumerate(kl, 1)]
    found = health_data("ppo", "bfloat16", metrics)
    assert found is not None
    (drift,) = (one for one in found["findings"] if one["metric"] == "kl/mean")
    assert (drift["name"], drift["status"], drift["current"]) == ("kl_drift", "unhealthy", False)
    assert 4 <= drift["step"] < drift["last"] <= 10 and drift["message"] and drift["fix"]
    assert found["status"] == "healthy" and found["step"] == len(kl)
    assert [code for _, code in found["timeline"]] == [0, 2, 0]


def test_a_kind_without_rules_has_no_health() -> None:
    assert health_data("unknown", "float32", [{"step": 1}]) is None
    assert health_data("ppo", "float32", []) is None
