"""Report the health monitor's findings at the end of a run, from its recorded metrics."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from harken.health.findings import Report
from harken.health.limits import limits_for
from harken.health.monitor import Monitor
from harken.health.rule import TrainingType


def health_sentences(name: str, kind: str, dtype: str, metrics: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a warning for each unhealthy finding of the last step, with cause and fix; [] if there is none.

    `metrics` are all lines of metrics.jsonl; `kind` and `dtype` are the run's, which rules and thresholds depend on.
    """
    report = final_report(kind, dtype, metrics)
    return [
        f"Warning: {name} at step {report.step}: {finding.name}: {finding.what}. "
        f"Likely cause: {finding.cause}. Fix: {finding.fix}."
        for finding in report.findings
        if finding.level == "unhealthy"
    ]


def final_report(kind: str, dtype: str, metrics: Sequence[Mapping[str, Any]]) -> Report:
    """Return the health monitor's findings at the last line of a run's metrics."""
    monitor = Monitor((), cast(TrainingType, kind), limits_for(dtype))
    return monitor.replay(json.dumps(dict(line)) for line in metrics)


def opening_sentence(runs: Sequence[tuple[str, Report, bool]]) -> str:
    """Say in one sentence how training ended. `runs` are (title, findings at the end, whether the run ended)."""
    unhealthy = [(title, report) for title, report, _ in runs if report.status == "unhealthy"]
    running = [title for title, _, ended in runs if not ended]
    if len(runs) > 1:
        clauses = [f"{len(unhealthy)} of {len(runs)} runs ended unhealthy"] if unhealthy else []
        clauses += [f"{len(running)} of {len(runs)} runs are not finished"] if running else []
        return (
            f"Warning: {', and '.join(clauses)}."
            if clauses
            else f"Note: {len(runs)} runs ended, none of them unhealthy."
        )
    title, report, ended = runs[0]
    if any(finding.name == "reward_hacking" and finding.level == "unhealthy" for finding in report.findings):
        return (
            f"Warning: {title} exploits its reward: on held-out prompts the reward rose while an independent judge "
            "of the same responses fell."
        )
    if unhealthy:
        worst = next(finding for finding in report.findings if finding.level == "unhealthy")
        return f"Warning: {title} {'ended' if ended else 'is'} unhealthy: {worst.what}."
    if not ended:
        return f"Warning: {title} is not finished; so far it is {report.status}."
    return f"Note: {title} ended after {report.step} steps, {report.status} by the health monitor."
