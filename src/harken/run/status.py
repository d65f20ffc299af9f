"""status.json: how many steps were asked for, how many are done, and why the run stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from harken.run import atomic, bounded, manifest
from harken.run.folder import RunFolder
from harken.run.terminal import say

State = Literal["running", "completed", "stopped", "failed"]


def write_status(
    run: RunFolder,
    *,
    requested: int,
    completed: int,
    stopped_because: str | None,
    skipped: int = 0,
    frozen_weights_moved: Sequence[str] = (),
) -> None:
    """Replace the status.

    `stopped_because` is None while the run goes on, "finished" when it did all that was asked,
    "failed: …" after an error, and otherwise the reason for stopping early ("interrupted", …).
    A completed step was trained on; a skipped one was passed over, for example for a NaN. `frozen_weights_moved`
    stands in the file where there are any.
    Raises ValueError for counts that contradict the reason or each other. On a full disk the old status stays, with a
    warning, unless the run came to its end: then that is an error, for the next start would do the end again.
    """
    if min(requested, completed, skipped) < 0 or completed + skipped > requested:
        raise ValueError(f"{completed} completed and {skipped} skipped of {requested} steps cannot be")
    if stopped_because == "finished" and completed + skipped < requested:
        raise ValueError(f"a run that did {completed + skipped} of {requested} steps is not finished")
    told: dict[str, Any] = {
        "state": state(stopped_because),
        "requested": requested,
        "completed": completed,
        "skipped": skipped,
        "stopped_because": stopped_because,
    }
    if frozen_weights_moved:
        told[manifest.MOVED] = list(frozen_weights_moved)
    try:
        atomic.write_json(run.status, told)
    except OSError as error:
        if not atomic.disk_is_full(error) or _is_end(told):
            raise
        say(f"warning: the status stays as it was, the run goes on: {error.strerror} ({run.status})")


def has_ended(run: RunFolder) -> bool:
    """Whether the run came to an end of its own: all steps, or a reason to stop early. False also without a status."""
    try:
        return _is_end(json.loads(bounded.read_bytes(run.status)))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _is_end(told: Mapping[str, Any]) -> bool:
    reason = told["stopped_because"] or ""
    return told["state"] == "completed" or (
        told["state"] == "stopped" and not reason.startswith("interrupted")
    )


def state(stopped_because: str | None) -> State:
    """The state a reason stands for."""
    if stopped_because is None:
        return "running"
    if stopped_because == "finished":
        return "completed"
    return "failed" if stopped_because.startswith("failed") else "stopped"
