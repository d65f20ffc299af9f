"""Define the charts of each training stage and their captions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from harken.explorer.bands import bands
from harken.health.limits import Limits

MAX_POINTS = 800
"""Largest number of points of a series. Longer runs keep the minimum and maximum of each interval."""


@dataclass(frozen=True, slots=True)
class Chart:
    """Define a chart: its metrics with labels, and horizontal lines at reference levels."""

    title: str
    unit: str
    caption: str
    series: tuple[tuple[str, str], ...]
    marks: tuple[tuple[float, str], ...] = ()
    format: Literal["number", "share"] = "number"


KL_UNHEALTHY, CLIP_UNHEALTHY = Limits().kl_unhealthy, Limits().clip_unhealthy
"""The thresholds at which the health monitor reports unhealthy."""
_HELD_OUT = "Steps without a point were not evaluated."

_PREFERENCE_CHARTS = (
    Chart(
        "Accuracy of implicit rewards",
        "share of pairs",
        "How often the better response gained more probability over the reference than the other. Pairs that the "
        "policy orders by chance: 50 %.",
        (("rewards/accuracies", "training"), ("eval/rewards/accuracies", "held out")),
        ((0.5, "random"),),
        "share",
    ),
    Chart(
        "Margin of implicit rewards",
        "reward",
        "Mean implicit reward (beta × log-ratio to the reference) of chosen responses minus that of rejected ones. A "
        "growing margin without a growing accuracy is no progress.",
        (("rewards/margins", "training"), ("eval/rewards/margins", "held out")),
        ((0.0, "none"),),
    ),
    Chart(
        "Implicit rewards",
        "reward",
        "Of chosen and rejected responses. Chosen below 0: the policy makes good responses less likely, too.",
        (("rewards/chosen", "chosen"), ("rewards/rejected", "rejected")),
        ((0.0, "reference"),),
    ),
    Chart(
        "Log-probability of chosen responses",
        "nats per token",
        "Change from the reference. It usually falls a little; a large fall makes the policy worse.",
        (("logps/chosen_change", "training"),),
        ((0.0, "reference"),),
    ),
)
"""Of DPO and online DPO."""

CHARTS: dict[str, tuple[Chart, ...]] = {
    "sft": (
        Chart(
            "Loss",
            "nats per token",
            f"Cross-entropy of the target responses: lower is better. {_HELD_OUT}",
            (("loss", "training"), ("eval/loss", "held out")),
        ),
        Chart(
            "Learning rate",
            "",
            "The learning rate, including warm-up and decay.",
            (("lr", "learning rate"),),
        ),
    ),
    "reward": (
        Chart(
            "Accuracy",
            "share of pairs",
            "How often the preferred response gets the higher reward. Random guessing scores 50 %.",
            (("accuracy", "training"), ("eval/accuracy", "held out")),
            ((0.5, "random"),),
            "share",
        ),
        Chart(
            "Loss",
            "nats per pair",
            "Bradley–Terry loss. An untrained model has 0.693.",
            (("loss", "training"), ("eval/loss", "held out")),
            ((0.6931, "untrained"),),
        ),
        Chart(
            "Margin",
            "reward",
            "Mean reward of the preferred response minus that of the other.",
            (("margin", "training"), ("eval/margin", "held out")),
            ((0.0, "none"),),
        ),
        Chart(
            "Rewards of a batch",
            "reward",
            "Mean and standard deviation over both sides of the pairs. The mean is arbitrary; a deviation near 0 means "
            "the same reward for every response.",
            (("reward/mean", "mean"), ("reward/std", "standard deviation")),
        ),
    ),
    "classifier": (
        Chart(
            "Accuracy",
            "share of responses",
            "How often the more probable label is the right one. The majority baseline always predicts the label that "
            "is more frequent among the held-out responses.",
            (
                ("accuracy", "training"),
                ("eval/accuracy", "held out"),
                ("eval/majority_accuracy", "majority baseline, held out"),
            ),
            format="share",
        ),
        Chart(
            "Loss",
            "nats per response",
            "Cross-entropy, weighted. An untrained model has about 0.693.",
            (("loss", "training"), ("eval/loss", "held out")),
            ((0.6931, "untrained"),),
        ),
        Chart(
            "Area under the ROC curve",
            "probability",
            "How often a held-out positive response scores above a negative one. Random guessing has 0.5.",
            (("eval/auc", "held out"),),
            ((0.5, "random"),),
        ),
    ),
    "ppo": (
        Chart(
            "Reward",
            "reward",
            "Mean reward of the sampled responses, penalties included. A rise alone does not show that responses are "
            "better: compare it with the KL and the judges.",
            (("reward/mean", "reward"), ("score/mean", "reward model only")),
        ),
        Chart(
            "KL from the reference",
            "nats per sequence",
            "KL divergence from the reference, summed over a response. Healthy below 10; above 15 the policy no longer "
            "resembles the reference.",
            (("kl/mean", "KL"),),
            ((KL_UNHEALTHY, "alarm"),),
        ),
        Chart(
            "Entropy",
            "nats per token",
            "Entropy of the policy's next-token distribution. A slow fall is normal; near 0 all responses are equal.",
            (("policy/entropy", "entropy"),),
            ((0.0, "collapse"),),
        ),
        Chart(
            "Clipped ratios",
            "share of tokens",
            "Tokens whose probability ratio left the clip range within an update. "
            "Usually below 30 %; above 50 % the steps are too large.",
            (("policy/clipfrac", "clipped"),),
            ((CLIP_UNHEALTHY, "alarm"),),
            "share",
        ),
        Chart(
            "Explained variance",
            "",
            "How well the critic predicts returns: 1 is perfect, 0 is no better than predicting the mean, "
            "below 0 is worse.",
            (("value/explained_var", "explained"),),
            ((0.0, "no better than the mean"),),
        ),
        Chart(
            "Response length",
            "tokens",
            "Mean tokens of a response. Reward models often favour length: an unexplained rise may be reward hacking.",
            (("response/tokens_mean", "training"), ("eval/tokens_mean", "held out")),
        ),
        Chart(
            "Stopping and repetition",
            "share",
            "Truncated responses, empty responses, and repeated token 4-grams.",
            (
                ("response/cap_hit", "truncated"),
                ("response/empty", "empty"),
                ("response/repetition", "repeated 4-grams"),
            ),
            format="share",
        ),
        Chart(
            "Held-out reward",
            "reward",
            "Mean reward on prompts that PPO does not train on.",
            (("eval/reward_mean", "held out"),),
        ),
        Chart(
            "KL coefficient",
            "reward per nat",
            "The coefficient of the KL penalty. Constant unless kl_control is adaptive.",
            (("kl/coef", "coefficient"),),
        ),
        Chart("Value loss", "", "Squared error of the critic against returns.", (("value/loss", "loss"),)),
    ),
    "dpo": (
        Chart(
            "Loss",
            "per pair",
            "Mean loss of a pair (kto: of a response). DPO starts at 0.693.",
            (("loss", "training"), ("eval/loss", "held out")),
        ),
        *_PREFERENCE_CHARTS,
        Chart(
            "KL of sampled responses",
            "nats per sequence",
            "KL from the reference, on responses that the policy samples to held-out prompts. " + _HELD_OUT,
            (("eval/kl/mean", "held out"),),
            ((KL_UNHEALTHY, "alarm"),),
        ),
        Chart(
            "Response length",
            "tokens",
            "Mean tokens of responses that the policy samples to held-out prompts. " + _HELD_OUT,
            (("eval/tokens_mean", "held out"),),
        ),
    ),
    "online_dpo": (
        Chart(
            "Reward",
            "reward",
            "Mean reward of the sampled responses, penalties included, and on prompts that are not trained on.",
            (("reward/mean", "training"), ("eval/reward_mean", "held out")),
        ),
        Chart(
            "KL from the reference",
            "nats per sequence",
            "KL divergence from the reference, summed over a response.",
            (("kl/mean", "KL"),),
            ((KL_UNHEALTHY, "alarm"),),
        ),
        Chart(
            "Pairs",
            "prompts",
            "Prompts of an update whose responses differ in reward, and those that were left out as ties.",
            (("pairs/count", "pairs"), ("pairs/ties", "ties")),
        ),
        *(replace(chart, series=chart.series[:1]) for chart in _PREFERENCE_CHARTS[:2]),
        Chart(
            "Response length",
            "tokens",
            "Mean tokens of a response.",
            (("response/tokens_mean", "training"), ("eval/tokens_mean", "held out")),
        ),
    ),
}
"""By `training.type`. Each part of a PPO run's reward and each judge gets a chart from `FAMILIES`."""


@dataclass(frozen=True, slots=True)
class ChartFamily:
    """Define charts of metrics with a common prefix, followed by the name of a reward part or a judge."""

    prefix: str
    title: str
    caption: str
    label: str


FAMILIES = (
    ChartFamily(
        "eval/judge_",
        "Held-out judge: {}",
        "Mean of a scorer that the policy is not trained on, over the held-out responses. When it falls while the "
        "reward rises, the policy games the reward. " + _HELD_OUT,
        "held out",
    ),
    ChartFamily(
        "eval/guard_",
        "Held-out guard: {}",
        "Mean of a rule that detects damaged responses, over the held-out responses. A fall is an alarm; a constant "
        "value is no evidence of quality. " + _HELD_OUT,
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
"""In page order. A metric belongs to the first family whose prefix matches."""

PENALTIES = {
    "missing_eos": ("share of responses", "Share of training responses that the token limit truncated."),
    "length": ("tokens", "Mean tokens of a training response."),
    "overlong": (
        "share of the penalty",
        "Mean share of the last tokens before the limit that a response used.",
    ),
    "repetition": ("share of 4-grams", "Mean share of repeated token 4-grams of a training response."),
}
"""Unit and meaning of the penalties in `reward.rules`: their weight is negative, so less is better."""


VOTES_CHART = Chart(
    "Votes of people",
    "share of decided items",
    "How often raters prefer the latest reviewed responses to those before training, without ties; from then on until "
    "the next review. If it stays at or below 50 % while the held-out reward rises, the policy games the reward.",
    (("votes/win_rate", "win rate"), ("votes/low", "95 % interval, low"), ("votes/high", "high")),
    ((0.5, "no preference"),),
    "share",
)
"""Of runs whose held-out responses were reviewed while they trained."""


def _family_charts(names: Iterable[str]) -> list[Chart]:
    """Return one chart per judge, then per guard, then per part of the reward."""
    drawn_metrics = {metric for chart in CHARTS["ppo"] for metric, _ in chart.series}
    charts_by_family: dict[str, list[Chart]] = {family.prefix: [] for family in FAMILIES}
    for name in names:
        family = next((f for f in FAMILIES if name.startswith(f.prefix)), None)
        if family is None or name in drawn_metrics:
            continue
        part_name = name.removeprefix(family.prefix)
        if family.prefix == "score/" and part_name in PENALTIES:
            unit, meaning = PENALTIES[part_name]
            chart = Chart(
                f"Penalty: {part_name}",
                unit,
                f"{meaning} The reward subtracts it times its weight: lower is better.",
                ((name, family.label),),
            )
        else:
            chart = Chart(family.title.format(part_name), "score", family.caption, ((name, family.label),))
        charts_by_family[family.prefix].append(chart)
    return [chart for charts in charts_by_family.values() for chart in charts]


def chart_data(
    kind: str, metrics: Sequence[Mapping[str, Any]], max_points: int | None = None
) -> list[dict[str, Any]]:
    """Return the charts of a stage as page data, without empty charts and series.

    A series has at most `max_points` points, by default MAX_POINTS.
    """
    names = dict.fromkeys(name for line in metrics for name in line)
    charts = [*CHARTS.get(kind, ())]
    if kind in ("ppo", "online_dpo"):
        votes = [VOTES_CHART] if "votes/win_rate" in names else []
        charts[2:2] = [*votes, *_family_charts(names)]
    entries = []
    for chart in charts:
        series = [
            {"label": label, "metric": metric, "points": points}
            for metric, label in chart.series
            if metric in names and (points := _points(metrics, metric, max_points or MAX_POINTS))
        ]
        if series:
            entries.append(
                {
                    "title": chart.title,
                    "unit": chart.unit,
                    "caption": chart.caption,
                    "format": chart.format,
                    "marks": [{"value": value, "label": label} for value, label in chart.marks],
                    "bands": bands(str(series[0]["metric"])),
                    "series": series,
                }
            )
    return entries


def _points(metrics: Sequence[Mapping[str, Any]], name: str, limit: int) -> list[list[float]]:
    """Return [step, value] pairs; a long run is reduced to the minimum and maximum of each interval."""
    points = [[line["step"], line[name]] for line in metrics if line.get(name) is not None]
    if len(points) <= limit:
        return points
    interval = -(-len(points) // (limit // 2))
    extremes: list[list[float]] = []
    for start in range(0, len(points), interval):
        interval_points = points[start : start + interval]
        ends = {
            min(interval_points, key=_value)[0]: min(interval_points, key=_value),
            max(interval_points, key=_value)[0]: max(interval_points, key=_value),
        }
        extremes += [ends[step] for step in sorted(ends)]
    return extremes


def _value(point: Sequence[float]) -> float:
    return point[1]
