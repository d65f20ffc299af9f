"""The curve of best of n: chosen by reward, and judged by scores that did not choose."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from harken.evaluation.frontier import curve_points


def mean_of_best(reward: np.ndarray, values: np.ndarray, n: int) -> float:
    """Choose the response of the highest reward from every set of n samples, and average its value."""
    return float(
        np.mean(
            [
                np.mean([row[max(chosen, key=lambda i: scores[i])] for chosen in combinations(range(len(row)), n)])
                for scores, row in zip(reward, values, strict=True)
            ]
        )
    )  # fmt: skip


def test_the_reward_chooses_and_the_judge_does_not() -> None:
    draw = np.random.default_rng(3)
    reward = draw.normal(size=(12, 4))
    judge = -reward + draw.normal(size=(12, 4)) / 4  # falls where the reward rises
    partly = judge.copy()
    partly[5, 2] = np.nan
    points = curve_points({"reward": reward, "judge_gold": judge, "judge_part": partly}, 4)
    assert [point["n"] for point in points] == [1, 2, 4]
    rest = np.delete(np.arange(12), 5)
    for point in points:
        n = point["n"]
        assert point["reward"]["value"] == pytest.approx(mean_of_best(reward, reward, n))
        assert point["judge_gold"]["value"] == pytest.approx(mean_of_best(reward, judge, n))
        assert point["judge_part"]["value"] == pytest.approx(mean_of_best(reward[rest], judge[rest], n))
    assert points[-1]["judge_gold"]["value"] < points[0]["judge_gold"]["value"]


def test_a_judge_without_a_prompt_that_it_scored_has_no_figure() -> None:
    reward = np.arange(40.0).reshape(10, 4)
    points = curve_points({"reward": reward, "judge_none": np.full((10, 4), np.nan)}, 2)
    assert all("judge_none" not in point and "reward" in point for point in points)
