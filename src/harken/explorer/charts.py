"""Which curves of a training stage the page draws, and what each means in plain words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from harken.health.limits import Limits

MAX_POINTS = 800
"""Points of one series in the page. Longer runs keep the lowest and highest of each stretch."""


@dataclass(frozen=True, slots=True)
class Chart:
    """One figure: the metrics it shows under their labels, and lines that mark a level worth knowing."""

    title: str
    unit: str
    caption: str
    series: tuple[tuple[str, str], ...]
    marks: tuple[tuple[float, str], ...] = ()
    format: Literal["number", "share"] = "number"


KL_UNHEALTHY, CLIP_UNHEALTHY = Limits().kl_unhealthy, Limits().clip_unhealthy
"""The lines of a chart are where the health monitor reports unhealthy."""
_HELD_OUT = "Steps without a point were not evaluated."

CHARTS: dict[str, tuple[Chart, ...]] = {
    "sft": (
        Chart(
            "Loss",
            "nats per token",
            f"How surprised the model is by the answers it imitates: lower is better. {_HELD_OUT}",
            (("loss", "training"), ("eval/loss", "held out")),
        ),
        Chart(
            "Learning rate",
            "",
            "The size of the steps, warm-up and decay included.",
            (("lr", "learning rate"),),
        ),
    ),
    "reward": (
        Chart(
            "Accuracy",
            "share of pairs",
            "How often the preferred answer gets the higher reward. A coin reaches 50 %.",
            (("accuracy", "training"), ("eval/accuracy", "held out")),
            ((0.5, "a coin"),),
            "share",
        ),
        Chart(
            "Loss",
            "nats per pair",
            "Bradley–Terry loss. A model that knows nothing has 0.693.",
            (("loss", "training"), ("eval/loss", "held out")),
            ((0.6931, "knows nothing"),),
        ),
        Chart(
            "Margin",
            "reward",
            "Mean reward of the preferred answer minus that of the other.",
            (("margin", "training"), ("eval/margin", "held out")),
            ((0.0, "none"),),
        ),
        Chart(
            "Rewards of a batch",
            "reward",
            "Mean and spread over both sides of the pairs. The mean is arbitrary; a spread near 0 means that the "
            "model gives every response the same reward.",
            (("reward/mean", "mean"), ("reward/std", "standard deviation")),
        ),
    ),
    "ppo": (
        Chart(
            "Reward",
            "reward",
            "Mean reward of the sampled answers, penalties included. Rising is the aim, and no proof on its own: "
            "read it beside the KL and the judge.",
            (("reward/mean", "reward"), ("score/mean", "reward model alone")),
        ),
        Chart(
            "KL to the reference",
            "nats per sequence",
            "How far the policy has moved, summed over an answer. Healthy below 10; above 15 it no longer "
            "speaks like its reference.",
            (("kl/mean", "KL"),),
            ((KL_UNHEALTHY, "alarm"),),
        ),
        Chart(
            "Entropy",
            "nats per token",
            "How many ways of going on the policy keeps open. A slow fall is normal; near 0 it says one thing.",
            (("policy/entropy", "entropy"),),
            ((0.0, "collapse"),),
        ),
        Chart(
            "Clipped ratios",
            "share of tokens",
            "Tokens whose probability moved beyond the clip range within an update. "
            "Usually below 30 %; above 50 % the steps are too large.",
            (("policy/clipfrac", "clipped"),),
            ((CLIP_UNHEALTHY, "alarm"),),
            "share",
        ),
        Chart(
            "Explained variance",
            "",
            "How well the value head foresees returns: 1 is perfect, 0 is no better than their mean, "
            "below 0 it does harm.",
            (("value/explained_var", "explained"),),
            ((0.0, "no better than the mean"),),
        ),
        Chart(
            "Answer length",
            "tokens",
            "Mean tokens of an answer. Reward models often favour length: a climb without a reason is a sign.",
            (("response/tokens_mean", "training"), ("eval/tokens_mean", "held out")),
        ),
        Chart(
            "Stopping and repetition",
            "share",
            "Answers cut at the token limit, answers without text, and repeated token 4-grams.",
            (
                ("response/cap_hit", "cut at limit"),
                ("response/empty", "empty"),
                ("response/repetition", "repeated 4-grams"),
            ),
            format="share",
        ),
        Chart(
            "Held-out answers",
            "reward",
            "Mean reward on prompts that PPO does not train on.",
            (("eval/reward_mean", "held out"),),
        ),
        Chart(
            "KL coefficient",
            "reward per nat",
            "The price of a nat of KL. Constant unless control is adaptive.",
            (("kl/coef", "coefficient"),),
        ),
        Chart(
            "Value loss", "", "Squared error of the value head against returns.", (("value/loss", "loss"),)
        ),
    ),
}
"""By `training.type`. Parts of a PPO run's reward and its judges get a chart each from `FAMILIES`."""


@dataclass(frozen=True, slots=True)
class ChartFamily:
    """Charts of metrics that share a prefix; what follows the prefix is the name of a reward part or a judge."""

    prefix: str
    title: str
    caption: str
    label: str


FAMILIES = (
    ChartFamily(
        "eval/judge_",
        "Held-out judge: {}",
        "Mean of a scorer that the policy is not trained on, over the held-out responses. When it falls while the "
        "reward rises, the reward is gamed. " + _HELD_OUT,
        "held out",
    ),
    ChartFamily(
        "eval/guard_",
        "Held-out guard: {}",
        "Mean of a rule that detects damaged responses, over the held-out ones. A fall is an alarm; a constant "
        "value says only that nothing broke. " + _HELD_OUT,
        "held out",
    ),
    ChartFamily(
        "score/",
        "Part of the reward: {}",
        "Mean of one part of the reward that PPO trains on, before its weight. The policy is trained to raise it, so "
        "it is no evidence of quality.",
        "training",
    ),
)
"""In the order in which the page shows them. A metric belongs to the first family whose prefix it has."""

PENALTIES = {
    "missing_eos": ("share of responses", "Share of training responses that the token limit truncated."),
    "length": ("tokens", "Mean tokens of a training response."),
    "repetition": ("share of 4-grams", "Mean share of repeated token 4-grams of a training response."),
}
"""Unit and meaning of the penalties in `reward.rules`: their weight is negative, so less is better."""


def _family_charts(names: Iterable[str]) -> list[Chart]:
    """One chart a reward part or judge: judges first, then guards, then the parts of the reward."""
    known = {metric for chart in CHARTS["ppo"] for metric, _ in chart.series}
    found: dict[str, list[Chart]] = {family.prefix: [] for family in FAMILIES}
    for name in names:
        family = next((f for f in FAMILIES if name.startswith(f.prefix)), None)
        if family is None or name in known:
            continue
        part = name.removeprefix(family.prefix)
        if family.prefix == "score/" and part in PENALTIES:
            unit, meaning = PENALTIES[part]
            chart = Chart(
                f"Penalty: {part}",
                unit,
                f"{meaning} The reward subtracts it times its weight: lower is better.",
                ((name, family.label),),
            )
        else:
            chart = Chart(family.title.format(part), "score", family.caption, ((name, family.label),))
        found[family.prefix].append(chart)
    return [chart for charts in found.values() for chart in charts]


def chart_data(kind: str, metrics: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The charts of a stage as the page reads them; charts and series without any value are left out."""
    names = dict.fromkeys(name for line in metrics for name in line)
    charts = [*CHARTS.get(kind, ())]
    if kind == "ppo":
        charts[2:2] = _family_charts(names)
    drawn = []
    for chart in charts:
        series = [
            {"label": label, "metric": metric, "points": points}
            for metric, label in chart.series
            if metric in names and (points := _points(metrics, metric))
        ]
        if series:
            drawn.append(
                {
                    "title": chart.title,
                    "unit": chart.unit,
                    "caption": chart.caption,
                    "format": chart.format,
                    "marks": [{"value": value, "label": label} for value, label in chart.marks],
                    "series": series,
                }
            )
    return drawn


def _points(metrics: Sequence[Mapping[str, Any]], name: str) -> list[list[float]]:
    """[step, value] of the steps that have a value; of a long run the extremes of each stretch."""
    points = [[line["step"], line[name]] for line in metrics if line.get(name) is not None]
    if len(points) <= MAX_POINTS:
        return points
    stretch = -(-len(points) // (MAX_POINTS // 2))
    kept: list[list[float]] = []
    for start in range(0, len(points), stretch):
        part = points[start : start + stretch]
        ends = {
            min(part, key=_value)[0]: min(part, key=_value),
            max(part, key=_value)[0]: max(part, key=_value),
        }
        kept += [ends[step] for step in sorted(ends)]
    return kept


def _value(point: Sequence[float]) -> float:
    return point[1]
