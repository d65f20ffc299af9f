"""status.json: how many steps were asked for, how many are done, and why the run stopped."""

from __future__ import annotations

import json
from typing import Literal

from harken.run import atomic
from harken.run.folder import RunFolder

State = Literal["running", "completed", "stopped", "failed"]


def write(
    run: RunFolder, *, requested: int, completed: int, stopped_because: str | None, skipped: int = 0
) -> None:
    """Replace the status.

    `stopped_because` is None while the run goes on, "finished" when it did all that was asked,
    "failed: …" after an error, and otherwise the reason for stopping early ("interrupted", …).
    A completed step was trained on; a skipped one was passed over, for example for a NaN.
    Raises ValueError for counts that contradict the reason or each other.
    """
    if min(requested, completed, skipped) < 0 or completed + skipped > requested:
        raise ValueError(f"{completed} completed and {skipped} skipped of {requested} steps cannot be")
    if stopped_because == "finished" and completed + skipped < requested:
        raise ValueError(f"a run that did {completed + skipped} of {requested} steps is not finished")
    atomic.write_json(
        run.status,
        {
            "state": state(stopped_because),
            "requested": requested,
            "completed": completed,
            "skipped": skipped,
            "stopped_because": stopped_because,
        },
    )


def is_over(run: RunFolder) -> bool:
    """Whether the run came to an end of its own: all steps, or a reason to stop early. False also without a status."""
    try:
        told = json.loads(run.status.read_text(encoding="utf-8"))
        state, reason = told["state"], told["stopped_because"] or ""
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return state == "completed" or (state == "stopped" and not reason.startswith("interrupted"))


def state(stopped_because: str | None) -> State:
    """The state a reason stands for."""
    if stopped_because is None:
        return "running"
    if stopped_because == "finished":
        return "completed"
    return "failed" if stopped_because.startswith("failed") else "stopped"
