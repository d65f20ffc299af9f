"""Give the ranges of a metric that the health monitor calls healthy, a warning and unhealthy."""

from __future__ import annotations

from typing import Any

from harken.health.limits import Limits

_LIMITS = Limits()
_KL = (_LIMITS.kl_warning, _LIMITS.kl_unhealthy)

_RISING = {
    "kl/mean": _KL,
    "eval/kl/mean": _KL,
    "policy/clipfrac": (_LIMITS.clip_warning, _LIMITS.clip_unhealthy),
    "reward/length_correlation": (_LIMITS.length_correlation, None),
    "group/zero_spread_frac": (_LIMITS.group_warning, _LIMITS.group_unhealthy),
}
"""Metric → values above which it is a warning and unhealthy; None without such a value."""
_FALLING = {
    "policy/entropy": (None, _LIMITS.entropy_unhealthy),
    "value/explained_var": (_LIMITS.explained_warning, _LIMITS.explained_unhealthy),
    "accuracy": (None, _LIMITS.accuracy),
    "logps/chosen_change": (_LIMITS.chosen_warning, _LIMITS.chosen_unhealthy),
}
"""Metric → values below which it is a warning and unhealthy."""


def bands(metric: str) -> list[dict[str, Any]]:
    """Return the ranges of a metric from low to high, with None for an open end; [] where it has no thresholds."""
    if metric in _RISING:
        return _ranges(*_RISING[metric], labels=("healthy", "warning", "unhealthy"))
    if metric in _FALLING:
        warning, unhealthy = _FALLING[metric]
        return _ranges(unhealthy, warning, labels=("unhealthy", "warning", "healthy"))
    return []


def _ranges(lower: float | None, upper: float | None, labels: tuple[str, str, str]) -> list[dict[str, Any]]:
    """Cut the axis at both values; where one is None, the range between them is left out."""
    if lower is None or upper is None:
        edge = upper if lower is None else lower
        # Without a warning value the middle range is empty; without an unhealthy value it is open.
        upper_label = labels[2] if labels[0] == "unhealthy" or upper is not None else labels[1]
        return [
            {"low": None, "high": edge, "label": labels[0]},
            {"low": edge, "high": None, "label": upper_label},
        ]
    return [
        {"low": None, "high": lower, "label": labels[0]},
        {"low": lower, "high": upper, "label": labels[1]},
        {"low": upper, "high": None, "label": labels[2]},
    ]
