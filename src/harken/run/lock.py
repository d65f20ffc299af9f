"""One process writes a folder, and there is room for what it will write."""

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
from harken.run import bounded, crash_report
from harken.run.terminal import say

LOCK, OWNER = ".writer.lock", ".writer.json"
_opened: list[Path] = []
"""Folders this process has written."""
_RESUMABLE = ("checkpoints/step-*", "final", "parts/*", "*/final", "summary.json")
"""What a command that is given again does not make again: of a run, an evaluation, a pipeline, a sweep."""


@contextmanager
def write_lock(folder: Path) -> Iterator[None]:
    """Be the only writer of a folder, which is made when there is none.

    The kernel drops the lock when the process ends, however it ends. Raises UserError, naming the other process,
    when there is one. File systems without locks get a warning.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise UserError(
            f"{_owner(folder)} is writing here",
            where=str(folder),
            fix="wait until it has finished, stop it, or choose another --output-dir",
        ) from None
    except NotImplementedError:
        say(f"warning: {folder} is on a file system without locks: let no second process write there")
    _opened.append(folder)
    try:
        with suppress(
            OSError
        ):  # it only names the owner to others: a full disk must not refuse the command for it
            (folder / OWNER).unlink(missing_ok=True)  # a pipe of that name would wait for a reader
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
    """What the command that was interrupted does when it is given again; "" for one that wrote to no folder."""
    if not _opened:
        return ""
    if any(next(folder.glob(kept), None) for folder in _opened for kept in _RESUMABLE):
        return "The same command with the same folder goes on from what is saved there"
    return "Nothing was saved yet: the same command starts again"


def require_disk_space(folder: Path, needed: int, what: str) -> None:
    """Raise UserError when the disk of `folder` has fewer than `needed` bytes free. `what` will take them."""
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
        owner = json.loads(bounded.read_bytes(folder / OWNER))
        return f"process {owner['pid']} on {owner['host']} (since {owner['since']})"
    except (OSError, ValueError, KeyError, TypeError):  # it has only just begun
        return "another process"
