"""Write files and folders atomically and flush them to the disk."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def write_bytes(path: Path, data: bytes) -> None:
    """Replace the content of `path` atomically; missing folders are created.

    A reader sees either the old or the new content, even after a power failure. Raises OSError that
    names `path`, and then keeps the old content. Only one process may write at a time.
    """
    make_folder(path.parent)
    unfinished = path.with_name(f".{path.name}.tmp")
    try:
        write_and_sync(unfinished, data)
        os.replace(unfinished, path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        if error.filename is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    sync(path.parent)


def make_folder(folder: Path) -> None:
    """Create a folder and its missing parents, and flush their directory entries."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync(folder.parent)


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8 with `write_bytes`."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON with `write_bytes`. Raises ValueError on NaN and infinities, which JSON does not have."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_and_sync(path: Path, data: bytes) -> None:
    """Write a file in place and flush it. Use it only in folders that are not published yet."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def publish_folder(unfinished: Path, folder: Path) -> None:
    """Rename a finished folder to its final name after flushing its files, and delete an older folder of that name.

    A rename cannot replace a folder that has files. If killed between the two renames, the folder is missing,
    never incomplete.
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
    """Flush a written file or the entries of a directory to the disk."""
    if os.name == "nt" and path.is_dir():  # Windows cannot open a folder, and orders renames itself
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def disk_is_full(error: OSError) -> bool:
    """Return whether the error means no space: a full disk, an exhausted quota or a limit on file size."""
    return error.errno in _FULL
