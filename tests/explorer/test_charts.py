import random

import pytest

from harken.explorer.charts import CHARTS, MOST_POINTS, figures


def titles(drawn):
    return [chart["title"] for chart in drawn]


def test_a_chart_needs_a_value():
    drawn = figures("sft", [{"step": 1, "loss": 2.0, "lr": None}, {"step": 2, "loss": 1.0}])
    assert titles(drawn) == ["Loss"]
    assert drawn[0]["series"] == [{"label": "training", "metric": "loss", "points": [[1, 2.0], [2, 1.0]]}]


def test_a_metric_of_some_steps_has_points_at_those_alone():
    lines = [{"step": 1, "loss": 1.0, "eval/loss": None}, {"step": 2, "loss": 1.0, "eval/loss": 0.5}]
    assert [s["points"] for s in figures("sft", lines)[0]["series"]] == [[[1, 1.0], [2, 1.0]], [[2, 0.5]]]


def test_a_judge_of_a_ppo_run_gets_its_own_figure():
    lines = [{"step": 1, "reward/mean": 1.0, "score/mean": 1.0, "kl/mean": 0.0, "score/demo_gold": 0.5}]
    assert titles(figures("ppo", lines)) == ["Reward", "KL to the reference", "demo_gold"]


def test_the_monitored_metrics_are_drawn():
    """S1-44..47, S4-36..39, S4-42..45: reward, KL, entropy, clip fraction, explained variance, value loss."""
    shown = {metric for chart in CHARTS["ppo"] for metric, _ in chart.series}
    assert shown >= {
        "reward/mean", "kl/mean", "kl/coef", "policy/entropy", "policy/clipfrac", "value/explained_var", "value/loss",
        "response/tokens_mean", "response/cap_hit",
    }  # fmt: skip


@pytest.mark.parametrize("kind", CHARTS)
def test_every_chart_says_what_it_means(kind):
    for chart in CHARTS[kind]:
        assert chart.caption.endswith(".") and chart.title
    kl = next(chart for chart in CHARTS["ppo"] if chart.series[0][0] == "kl/mean")
    assert kl.unit == "nats per sequence"


def test_a_long_run_keeps_its_extremes():
    noise = random.Random(0)
    lines = [{"step": i, "loss": noise.random()} for i in range(1, 50_001)]
    lines[31_234]["loss"], lines[7]["loss"] = 99.0, -99.0
    points = figures("sft", lines)[0]["series"][0]["points"]
    assert len(points) <= MOST_POINTS
    assert [31_235, 99.0] in points and [8, -99.0] in points
    assert [step for step, _ in points] == sorted(step for step, _ in points)


def test_an_unknown_stage_has_no_figures():
    assert figures("dpo", [{"step": 1, "loss": 1.0}]) == []
