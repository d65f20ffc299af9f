"""Say what the health monitor found at the end of a run, from its recorded metrics."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from harken.health.limits import limits_for
from harken.health.monitor import Monitor
from harken.health.rule import TrainingType


def health_sentences(name: str, kind: str, dtype: str, metrics: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a warning for each unhealthy finding of the last step, with cause and fix; [] if there is none.

    `metrics` are all lines of metrics.jsonl; `kind` and `dtype` are the run's, which rules and thresholds depend on.
    """
    monitor = Monitor((), cast(TrainingType, kind), limits_for(dtype))
    report = monitor.replay(json.dumps(dict(line)) for line in metrics)
    return [
        f"Warning: {name} at step {report.step}: {found.name}: {found.what}. "
        f"Likely cause: {found.cause}. Fix: {found.fix}."
        for found in report.findings
        if found.level == "unhealthy"
    ]
