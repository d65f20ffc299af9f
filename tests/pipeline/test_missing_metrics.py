"""The page says where a run's metrics end before the run did."""

from __future__ import annotations

from typing import Any

import pytest

from harken.pipeline.page_run import missing_metrics_warning

DONE: dict[str, Any] = {"state": "completed", "requested": 16, "completed": 14, "skipped": 2}


@pytest.mark.parametrize(("steps", "text"), [(15, "ends at step 15"), (0, "has no steps")])
def test_steps_without_metrics_are_a_warning(steps: int, text: str) -> None:
    found = missing_metrics_warning("PPO", DONE, [{"step": i} for i in range(1, steps + 1)])
    assert found is not None and found.startswith("Warning: PPO did 16 steps, but its metrics.jsonl " + text)


@pytest.mark.parametrize("status", [DONE, {}, {"state": "running", "completed": 12}])
def test_complete_metrics_are_not(status: dict[str, Any]) -> None:
    assert missing_metrics_warning("PPO", status, [{"step": i} for i in range(1, 17)]) is None
