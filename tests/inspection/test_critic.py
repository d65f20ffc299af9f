"""Values against returns, by quintile of the tokens."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

import pytest

from harken.inspection.critic import CRITIC_BINS, critic_data, critic_lines
from harken.inspection.recorded import RecordedStep, read_step

MakeRun = Callable[..., Path]


def with_pairs(step: RecordedStep, value_of: Callable[[float], float]) -> RecordedStep:
    """The same returns, and values that are a function of them."""
    for row in step.credit:
        row["values"] = [value_of(r) for r in row["returns"]]
    return step


def test_a_perfect_critic_has_explained_variance_one(make_run: MakeRun) -> None:
    """S0-12: explained variance 1, and mean value = mean return in every fifth."""
    lines = critic_lines(with_pairs(read_step(make_run(), 3), lambda r: r))
    assert "explained variance +1.000 over the 34 tokens of 6 responses" in lines[0]
    rows = [line.split()[-2:] for line in lines[2:]]
    assert len(rows) == 5 and all(value == earned for value, earned in rows)
    assert [float(value) for value, _ in rows] == sorted(float(value) for value, _ in rows)


def test_the_fifths_are_those_of_the_definition(make_run: MakeRun) -> None:
    """Every token once: 34 in parts of 6, 7, 7, 7, 7 by value, and the variance by hand."""
    step = read_step(make_run(), 3)
    pairs = sorted((v, r) for row in step.credit for v, r in zip(row["values"], row["returns"], strict=True))
    lines = critic_lines(step)
    start = 0
    for size, line in zip((6, 7, 7, 7, 7), lines[2:], strict=True):
        part = pairs[start : start + size]
        want = [f"{statistics.fmean(side):+.3f}" for side in zip(*part, strict=True)]
        assert line.split()[-2:] == want
        start += size
    left = statistics.pvariance([r - v for v, r in pairs]) / statistics.pvariance([r for _, r in pairs])
    assert f"explained variance {1 - left:+.3f}" in lines[0]


def test_a_constant_critic_shows_no_fifths(make_run: MakeRun) -> None:
    """A new critic is 0 everywhere: sorting its tokens by anything else would invent a foresight."""
    step = read_step(make_run(), 3)
    assert critic_lines(with_pairs(step, lambda _: 0.0)) == [
        "critic: explained variance +0.000 over the 34 tokens of 6 responses, +0.000 for each of them"
    ]
    step.credit[0]["values"][0] = 1.0
    wanted = [r for row in step.credit for r in row["returns"]][1:7]
    assert critic_lines(step)[2].split()[-1] == f"{statistics.fmean(wanted):+.3f}", (
        "ties keep the order of the tokens"
    )


def test_masked_responses_do_not_count(make_run: MakeRun) -> None:
    assert "over the 18 tokens" in critic_lines(read_step(make_run(ppo={"truncated": "mask"}), 3))[0]


@pytest.mark.parametrize("advantage", ["rloo", "grpo"])
def test_without_a_critic_nothing_is_said(advantage: str, make_run: MakeRun) -> None:
    assert critic_lines(read_step(make_run(ppo={"advantage": advantage, "samples_per_prompt": 2}), 3)) == []


def test_the_bins_of_the_page_are_those_of_the_definition(make_run: MakeRun) -> None:
    """S0-12: every token once, in bins of equal size by value; mean value, mean return and quantiles by hand."""
    step = read_step(make_run(), 3)
    pairs = sorted((v, r) for row in step.credit for v, r in zip(row["values"], row["returns"], strict=True))
    found = critic_data(step)
    assert (
        found is not None and found["tokens"] == len(pairs) == 34 and len(found["bins"]) == CRITIC_BINS == 20
    )
    sizes = [(i + 1) * 34 // 20 - i * 34 // 20 for i in range(20)]
    assert sum(sizes) == 34
    start = 0
    for size, one in zip(sizes, found["bins"], strict=True):
        part = pairs[start : start + size]
        start += size
        assert one["value"] == pytest.approx(statistics.fmean(v for v, _ in part), abs=6e-5)
        assert one["return"] == pytest.approx(statistics.fmean(r for _, r in part), abs=6e-5)
        assert one["low"] <= one["return"] <= one["high"]
    left = statistics.pvariance([r - v for v, r in pairs]) / statistics.pvariance([r for _, r in pairs])
    assert found["explained"] == pytest.approx(1 - left, abs=1e-3)


def test_a_critic_without_a_picture_has_no_bins(make_run: MakeRun) -> None:
    assert critic_data(with_pairs(read_step(make_run(), 3), lambda _: 0.0)) is None
    assert critic_data(read_step(make_run(ppo={"advantage": "rloo", "samples_per_prompt": 2}), 3)) is None
