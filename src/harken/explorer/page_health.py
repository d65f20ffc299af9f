"""Replay a run's metrics through the health monitor: its status over time and every finding with its episode."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast, get_args

from harken.health.findings import SEVERITY, STATUSES, Finding
from harken.health.limits import limits_for
from harken.health.monitor import RULES, Monitor
from harken.health.rule import TrainingType

MAX_CHECKS = 2000
"""Checks of a run. Longer runs are checked after every few steps, and after the last one."""

_METRIC_OF = {rule.name: rule.metric for rule in RULES}


def health_data(kind: str, dtype: str, metrics: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the status, its changes and all findings of a run; None without metrics or for an unknown kind."""
    if not metrics or kind not in get_args(TrainingType):
        return None
    monitor = Monitor((), cast(TrainingType, kind), limits_for(dtype))
    interval = -(-len(metrics) // MAX_CHECKS)
    episodes: dict[str, dict[str, Any]] = {}
    timeline: list[list[int]] = []
    for start in range(0, len(metrics), interval):
        report = monitor.replay(json.dumps(dict(line)) for line in metrics[start : start + interval])
        code = STATUSES.index(report.status)
        if not timeline or timeline[-1][1] != code:
            timeline.append([report.step, code])
        for finding in (*report.findings, *report.covered):
            _extend(episodes, finding, report.step)
    _merge_covered(episodes)
    for episode in episodes.values():
        episode["current"] = episode["last"] == report.step
        episode["metric"] = _recorded(_METRIC_OF[episode["name"]], metrics)
    return {
        "status": report.status,
        "step": report.step,
        "findings": sorted(episodes.values(), key=_urgency),
        "timeline": timeline,
    }


def _extend(episodes: dict[str, dict[str, Any]], finding: Finding, step: int) -> None:
    """Add a finding, or extend its episode; the message is that of its worst step, of several the last."""
    episode = episodes.setdefault(finding.name, {"name": finding.name, "status": finding.level, "step": step})
    episode["last"] = step
    if SEVERITY[finding.level] >= SEVERITY[episode["status"]]:
        episode |= {
            "status": finding.level,
            "message": finding.what,
            "cause": finding.cause,
            "fix": finding.fix,
        }


def _merge_covered(episodes: dict[str, dict[str, Any]]) -> None:
    """Drop findings that another one covers; the covering one starts at the earliest of them."""
    for rule in RULES:
        if (covering := episodes.get(rule.name)) is None:
            continue
        for name in rule.covers:
            if (covered := episodes.get(name)) is not None and covered["last"] == covering["last"]:
                covering["step"] = min(covering["step"], episodes.pop(name)["step"])


def _urgency(episode: Mapping[str, Any]) -> tuple[bool, int, int]:
    return not episode["current"], -SEVERITY[episode["status"]], episode["step"]


def _recorded(metric: str | None, metrics: Iterable[Mapping[str, Any]]) -> str | None:
    """Return the metric, or its held-out counterpart if only that was recorded."""
    if metric is None:
        return None
    names = {name for line in metrics for name, value in line.items() if value is not None}
    return next((name for name in (metric, f"eval/{metric}") if name in names), metric)
