"""Files that appear whole or not at all, and are on the disk when the call returns."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data`, making its folder when there is none.

    A reader sees the old content or the new, never a part, even after a power cut. Raises OSError;
    the old content is then untouched. One writer at a time.
    """
    make_folder(path.parent)
    unfinished = path.with_name(f".{path.name}.tmp")
    try:
        write_and_sync(unfinished, data)
        os.replace(unfinished, path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    sync(path.parent)


def make_folder(folder: Path) -> None:
    """A folder, and those above it that are missing, with their names on the disk."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync(folder.parent)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """`write_bytes` of indented JSON. Raises ValueError on NaN and infinities, which JSON does not have."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_and_sync(path: Path, data: bytes) -> None:
    """Write a file in place and flush it to the disk. Only for folders that are not yet in use."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def publish_folder(unfinished: Path, folder: Path) -> None:
    """A folder that is ready takes its name, with every file in it on the disk; an older one of that name goes.

    No rename replaces a whole folder: a kill in between may leave none of that name, never a part of one.
    """
    replaced = folder.with_name(f".replaced-{folder.name}")
    for path in [*sorted(unfinished.rglob("*")), unfinished]:
        sync(path)
    shutil.rmtree(replaced, ignore_errors=True)
    if folder.exists():
        os.rename(folder, replaced)
    os.rename(unfinished, folder)
    sync(folder.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def sync(path: Path) -> None:
    """Flush a file that is already written, or a folder's list of names, to the disk."""
    if os.name == "nt" and path.is_dir():  # Windows cannot open a folder, and orders renames itself
        return
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def disk_is_full(error: OSError) -> bool:
    """Whether there was no room: a full disk, a spent quota or a limit on file size."""
    return error.errno in _FULL
