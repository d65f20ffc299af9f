import random

import pytest

from harken.config.ppo import PPOSettings
from harken.evaluation.verdict import KL_ALARM
from harken.explorer.charts import CHARTS, MAX_POINTS, PENALTIES, chart_data
from harken.health.limits import Limits
from harken.reward.rules import penalties


def titles(drawn):
    return [chart["title"] for chart in drawn]


def test_a_chart_needs_a_value():
    drawn = chart_data("sft", [{"step": 1, "loss": 2.0, "lr": None}, {"step": 2, "loss": 1.0}])
    assert titles(drawn) == ["Loss"]
    assert drawn[0]["series"] == [{"label": "training", "metric": "loss", "points": [[1, 2.0], [2, 1.0]]}]


def test_a_metric_of_some_steps_has_points_at_those_alone():
    lines = [{"step": 1, "loss": 1.0, "eval/loss": None}, {"step": 2, "loss": 1.0, "eval/loss": 0.5}]
    assert [s["points"] for s in chart_data("sft", lines)[0]["series"]] == [[[1, 1.0], [2, 1.0]], [[2, 0.5]]]


def chart_of(metric):
    (chart,) = (
        c for c in chart_data("ppo", [{"step": 1, metric: 0.5}]) if c["series"][0]["metric"] == metric
    )
    return chart


def test_a_chart_is_captioned_by_what_its_metric_is():
    """A judge, a guard, a part of the reward and a penalty mean four things: only a judge tells of a gamed reward."""
    captions = {
        metric: chart_of(metric)["caption"]
        for metric in ("eval/judge_gold", "eval/guard_intact", "score/demo_gold", "score/missing_eos")
    }
    assert [metric for metric, text in captions.items() if "games the reward" in text] == ["eval/judge_gold"]
    assert "fall is an alarm" in captions["eval/guard_intact"]
    assert "trains on" in captions["score/demo_gold"]
    assert "lower is better" in captions["score/missing_eos"]
    assert len(set(captions.values())) == 4


def test_judges_come_before_guards_and_parts_of_the_reward():
    names = (
        "score/missing_eos",
        "score/other",
        "eval/guard_intact",
        "eval/judge_second",
        "reward/mean",
        "kl/mean",
    )
    drawn = chart_data("ppo", [{"step": 1} | dict.fromkeys(names, 1.0)])
    assert titles(drawn) == [
        *("Reward", "KL from the reference", "Held-out judge: second", "Held-out guard: intact"),
        *("Penalty: missing_eos", "Part of the reward: other"),
    ]


def test_a_metric_of_no_known_kind_gets_no_chart():
    assert chart_data("ppo", [{"step": 1, "gold": 1.0, "eval/gold": 1.0, "eval/change_gold": 1.0}]) == []


def test_every_penalty_has_its_meaning():
    settings = PPOSettings.model_validate(
        {
            "missing_eos_penalty": 1.0,
            "length_penalty": 1.0,
            "repetition_penalty": 1.0,
            "overlong": {"buffer": 8},
        }
    )
    assert {rule.name for rule in penalties(settings)} == set(PENALTIES)


def test_alarm_lines_are_at_the_monitors_limits():
    limits = Limits()
    drawn = chart_data("ppo", [{"step": 1, "kl/mean": 1.0, "policy/clipfrac": 0.1}])
    marks = {c["series"][0]["metric"]: [(m["value"], m["label"]) for m in c["marks"]] for c in drawn}
    assert marks == {
        "kl/mean": [(limits.kl_unhealthy, "alarm")],
        "policy/clipfrac": [(limits.clip_unhealthy, "alarm")],
    }
    assert limits.kl_unhealthy == KL_ALARM
    drawn = chart_data("reward", [{"step": 1, "accuracy": 0.5, "loss": 0.7, "margin": 0.0}])
    assert [[m["value"] for m in c["marks"]] for c in drawn] == [[0.5], [0.6931], [0.0]]


def test_the_monitored_metrics_are_drawn():
    """S1-44..47, S4-36..39, S4-42..45: reward, KL, entropy, clip fraction, explained variance, value loss."""
    shown = {metric for chart in CHARTS["ppo"] for metric, _ in chart.series}
    assert shown >= {
        "reward/mean", "kl/mean", "kl/coef", "policy/entropy", "policy/clipfrac", "value/explained_var", "value/loss",
        "response/tokens_mean", "response/cap_hit",
    }  # fmt: skip


@pytest.mark.parametrize("kind", CHARTS)
def test_every_chart_has_an_explanation(kind):
    for chart in CHARTS[kind]:
        assert chart.caption.endswith(".") and chart.title
    kl = next(chart for chart in CHARTS["ppo"] if chart.series[0][0] == "kl/mean")
    assert kl.unit == "nats per sequence"


def test_a_long_run_keeps_its_extremes():
    noise = random.Random(0)
    lines = [{"step": i, "loss": noise.random()} for i in range(1, 50_001)]
    lines[31_234]["loss"], lines[7]["loss"] = 99.0, -99.0
    points = chart_data("sft", lines)[0]["series"][0]["points"]
    assert len(points) <= MAX_POINTS
    assert [31_235, 99.0] in points and [8, -99.0] in points
    assert [step for step, _ in points] == sorted(step for step, _ in points)


def test_an_unknown_stage_has_no_figures():
    assert chart_data("unknown", [{"step": 1, "loss": 1.0}]) == []
