"""Write and read status.json: requested and completed steps, and why the run stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from harken.run import atomic, bounded_read, json_io, manifest
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
    """Write the status.

    `stopped_because` is None while the run continues, "finished" after all steps, "failed: …" after an error, and
    otherwise the reason for stopping early ("interrupted", …). Skipped steps, for example because of NaN, are not
    completed. `frozen_weights_moved` is written if it is not empty.
    Raises ValueError for counts that contradict the reason or each other. On a full disk the old status is kept with a
    warning. If the run has ended, a full disk is an error instead, because a restart would repeat its last phase.
    """
    if min(requested, completed, skipped) < 0 or completed + skipped > requested:
        raise ValueError(f"{completed} completed and {skipped} skipped of {requested} steps is impossible")
    if stopped_because == "finished" and completed + skipped < requested:
        raise ValueError(f"a run with {completed + skipped} of {requested} steps is not finished")
    record: dict[str, Any] = {
        "state": state(stopped_because),
        "requested": requested,
        "completed": completed,
        "skipped": skipped,
        "stopped_because": stopped_because,
    }
    if frozen_weights_moved:
        record[manifest.FROZEN_CHANGED] = list(frozen_weights_moved)
    try:
        atomic.write_json(run.status, record)
    except OSError as error:
        if not atomic.disk_is_full(error) or _is_end(record):
            raise
        say(f"warning: status.json could not be updated, the run continues: {error.strerror} ({run.status})")


class _RecordedStatus(json_io.Schema):
    state: State
    requested: int
    completed: int
    stopped_because: str | None


def read_status(run: RunFolder) -> dict[str, Any]:
    """Read status.json; {} where the run has none yet. Raises UserError for a damaged file."""
    if not run.status.exists():
        return {}
    record = json_io.read_object(run.status)
    json_io.validate(record, _RecordedStatus, str(run.status))
    return record


def has_ended(run: RunFolder) -> bool:
    """Return whether the run ended by itself: after all steps or by an early stop. False without a status."""
    try:
        return _is_end(json.loads(bounded_read.read_bytes(run.status)))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _is_end(record: Mapping[str, Any]) -> bool:
    reason = record["stopped_because"] or ""
    return record["state"] == "completed" or (
        record["state"] == "stopped" and not reason.startswith("interrupted")
    )


def state(stopped_because: str | None) -> State:
    """Return the state that a reason describes."""
    if stopped_because is None:
        return "running"
    if stopped_because == "finished":
        return "completed"
    return "failed" if stopped_because.startswith("failed") else "stopped"
