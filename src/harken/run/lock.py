"""Lock a folder for one writing process, and check the free disk space."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from harken.errors import UserError
from harken.run import bounded_read, crash_report
from harken.run.terminal import say

LOCK, OWNER = ".writer.lock", ".writer.json"
_opened: list[Path] = []
"""Folders that this process has locked."""
_RESUMABLE = ("checkpoints/step-*", "final", "shards/*", "*/final", "summary.json", "judgements.jsonl")
"""Files of a run, an evaluation, a pipeline, a sweep or a judge from which a repeated command resumes."""


FIX_LOCKED = "wait until it has finished, stop it, or choose another --output-dir"


@contextmanager
def write_lock(folder: Path, fix: str = FIX_LOCKED) -> Iterator[None]:
    """Lock a folder for writing; create it if it is missing.

    The kernel releases the lock when the process ends for any reason. Raises UserError, naming the other process and
    `fix`, if the folder is locked. On file systems without locks, print a warning.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise UserError(
            f"{_owner(folder)} is writing here",
            where=str(folder),
            fix=fix,
        ) from None
    except NotImplementedError:
        say(
            f"warning: {folder} is on a file system without locks: do not start a second process that writes there"
        )
    _opened.append(folder)
    try:
        with suppress(OSError):  # the file only names the owner: a full disk must not fail the command here
            (folder / OWNER).unlink(missing_ok=True)  # opening an existing FIFO for writing would block
            (folder / OWNER).write_text(json.dumps(_this_process()) + "\n")
        yield
    except BaseException as error:
        crash_report.note_folder(error, folder)
        raise
    finally:
        with suppress(OSError):
            (folder / OWNER).unlink(missing_ok=True)
        lock.release()


def resume_hint() -> str:
    """Return a hint on resuming; "" if it wrote to no folder."""
    if not _opened:
        return ""
    if any(next(folder.glob(pattern), None) for folder in _opened for pattern in _RESUMABLE):
        return "Run the same command with the same folder to resume"
    return "Nothing was saved yet: the same command starts from the beginning"


def require_disk_space(folder: Path, needed: int, what: str) -> None:
    """Raise UserError if the disk of `folder` has less than `needed` bytes free for `what`."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{free / 1e9:.2f} GB are free, and {what} will take {needed / 1e9:.2f} GB",
            where=str(folder),
            fix="make room, or choose an --output-dir on another disk",
        )


def _this_process() -> dict[str, str | int]:
    return {
        "pid": os.getpid(),
        "host": platform.node(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _owner(folder: Path) -> str:
    try:
        owner = json.loads(bounded_read.read_bytes(folder / OWNER))
        return f"process {owner['pid']} on {owner['host']} (since {owner['since']})"
    except (OSError, ValueError, KeyError, TypeError):  # the other process has just started
        return "another process"
