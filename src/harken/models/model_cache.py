"""The user's model cache: folders built once per machine, with a lock between processes."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]  # public, not in its __all__

from harken.errors import UserError
from harken.run import atomic
from harken.run.terminal import say


def cache_root() -> Path:
    """Return `$XDG_CACHE_HOME/harken`, or `~/.cache/harken`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "harken"


def build_once(folder: Path, notice: str, build: Callable[[Path], None]) -> Path:
    """Return `folder`, after `build` has created it if needed; `notice` is printed first.

    `build` writes into a temporary sibling folder, which is renamed at the end: `folder` is complete or absent.
    Processes that need the same folder at once wait for the first. Raises UserError when the place
    cannot be written to, and whatever `build` raises.
    """
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(folder.with_name(f".{folder.name}.lock")):
            if not folder.is_dir():
                say(notice)
                _build(folder, build)
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise UserError(
            f"the model cache cannot be written to ({error.strerror})",
            where=str(folder.parent),
            fix="set XDG_CACHE_HOME to a folder that can",
        ) from error
    return folder


def _build(folder: Path, build: Callable[[Path], None]) -> None:
    # Left by killed processes: while the lock is held, no other process uses them.
    for abandoned in folder.parent.glob(f".{folder.name}.making-*"):
        shutil.rmtree(abandoned)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.making-", dir=folder.parent))
    try:
        build(unfinished)
        unfinished.chmod(0o755)
        for path in [*unfinished.iterdir(), unfinished]:
            atomic.sync(path)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
