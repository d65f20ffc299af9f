"""Build the top of the page: one sentence, at most three large numbers, and the example to show first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

_MAX_NUMBERS = 3
_ENDS = 3
"""Updates at the start and the end of a run that a number is averaged over, because one batch is noisy."""


def headline_data(
    verdict: Sequence[Mapping[str, str]],
    numbers: Sequence[Mapping[str, Any]],
    stages: Sequence[Mapping[str, Any]],
    example: str | None,
) -> dict[str, Any]:
    """Return the top of the page. Without `numbers` of an evaluation, those of the last stage are shown."""
    headline_numbers = list(numbers) or training_numbers(stages)
    sentence = dict(verdict[0]) if verdict else {"word": "Note", "text": ""}
    return {
        "sentence": sentence,
        "numbers": [dict(number) for number in headline_numbers[:_MAX_NUMBERS]],
        "example": example,
    }


def training_numbers(stages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the numbers of the last stage that has any: what its training changed, from start to end.

    For several runs of one kind: how many there are, which has the best value, and how many ended unhealthy.
    """
    kinds = [stage["kind"] for stage in stages]
    if repeated := [kind for kind in kinds if kinds.count(kind) > 1]:
        return _comparison([stage for stage in stages if stage["kind"] == repeated[-1]])
    for stage in reversed(stages):
        points = _points(stage)
        if stage_numbers := [
            number
            for definition in _NUMBERS.get(stage["kind"], ())
            if (number := _number(*definition, points)) is not None
        ]:
            return stage_numbers[:_MAX_NUMBERS]
    return []


_REWARD = ("Mean reward of its responses", "number", "reward/mean", "what training maximises")
_HELD_OUT = ("Reward on prompts it did not train on", "number", "eval/reward_mean", "held-out prompts")
_DISTANCE = (
    "Distance from the model it started from",
    "distance",
    "kl/mean",
    "KL per response; usual below 10",
)
_NUMBERS = {
    "sft": (
        (
            "Prediction error on held-out text",
            "number",
            "eval/loss",
            "loss in nats per token; lower is better",
        ),
        ("Prediction error on training text", "number", "loss", "loss in nats per token; lower is better"),
    ),
    "reward": (
        ("Held-out pairs ranked right", "share", "eval/accuracy", "guessing ranks 50 % right"),
        ("Training pairs ranked right", "share", "accuracy", "guessing ranks 50 % right"),
    ),
    "classifier": (
        ("Held-out responses classified right", "share", "eval/accuracy", "at probability one half"),
        ("Training responses classified right", "share", "accuracy", "at probability one half"),
    ),
    "dpo": (
        ("Held-out pairs ordered right", "share", "eval/rewards/accuracies", "guessing orders 50 % right"),
        ("Training pairs ordered right", "share", "rewards/accuracies", "guessing orders 50 % right"),
        ("Distance from the model it started from", "distance", "eval/kl/mean", "KL per response"),
    ),
    "online_dpo": (_REWARD, _HELD_OUT, _DISTANCE),
    "ppo": (_REWARD, _HELD_OUT, _DISTANCE),
}
"""By training type: label, format, metric and explanation of each number."""


_BEST = {
    "sft": ("eval/loss", "Lowest prediction error on held-out text", min),
    "reward": ("eval/accuracy", "Most held-out pairs ranked right", max),
    "classifier": ("eval/accuracy", "Most held-out responses classified right", max),
    "dpo": ("eval/rewards/accuracies", "Most held-out pairs ordered right", max),
    "online_dpo": ("eval/reward_mean", "Highest reward on held-out prompts", max),
    "ppo": ("eval/reward_mean", "Highest reward on held-out prompts", max),
}
"""By training type: the metric that several runs are compared by, and which end of it is the best."""


def _comparison(stages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the numbers of several runs of one kind."""
    ended_count = sum(stage["state"]["state"] in ("completed", "stopped") for stage in stages)
    unhealthy = [stage for stage in stages if stage["health"] and stage["health"]["status"] == "unhealthy"]
    shown_numbers = [
        {"label": "Runs compared", "value": str(len(stages)), "detail": f"{ended_count} of them ended"}
    ]
    kind = stages[0]["kind"]
    if kind in _BEST:
        metric, label, choose = _BEST[kind]
        last_values = {
            stage["title"]: points[metric][-1] for stage in stages if (points := _points(stage)).get(metric)
        }
        if last_values:
            name = choose(last_values, key=lambda title: last_values[title])
            format_value = _share if "accurac" in metric else _plain
            shown_numbers.append(
                {
                    "label": label,
                    "value": format_value(last_values[name]),
                    "detail": f"{name}; of {len(last_values)} runs, at their end",
                }
            )
    detail = ", ".join(stage["title"] for stage in unhealthy[:3]) or "by the health monitor"
    return [
        *shown_numbers,
        {
            "label": "Runs that ended unhealthy",
            "value": f"{len(unhealthy)} of {len(stages)}",
            "detail": detail,
        },
    ]


def _points(stage: Mapping[str, Any]) -> dict[str, list[float]]:
    """Return the values of every metric in a stage's charts over its steps."""
    return {
        series["metric"]: [value for _, value in series["points"]]
        for chart in stage["charts"]
        if chart.get("scale") != "root"
        for series in chart["series"]
    }


def _number(
    label: str, value_format: str, metric: str, meaning: str, points: Mapping[str, Sequence[float]]
) -> dict[str, Any] | None:
    values = points.get(metric)
    if not values:
        return None
    ends = min(_ENDS, max(len(values) // 2, 1))
    start, end = fmean(values[:ends]), fmean(values[-ends:])
    if value_format == "distance":
        detail = meaning if ends == 1 else f"{meaning}; mean of the last {ends} values"
        return {"label": label, "value": f"{end:.1f} nats", "detail": detail}
    format_value = _share if value_format == "share" else _plain
    if len(values) == 1:
        return {"label": label, "value": format_value(end), "detail": meaning}
    which = "first → last" if ends == 1 else f"means of the first and last {ends} values"
    return {
        "label": label,
        "value": f"{format_value(start)} → {format_value(end)}",
        "detail": f"{meaning}; {which}",
    }


def _share(value: float) -> str:
    return f"{100 * value:.0f} %"


def _plain(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")
