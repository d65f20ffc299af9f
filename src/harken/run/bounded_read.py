"""Read a file of a run folder with a limit on its size.

A folder may contain a sparse file of a terabyte, a pipe or a device. Reading any of them fails early.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

MAX_OBJECT = 1 << 26
"""Largest size in bytes of a file with one JSON object or array, or with checksums."""
MAX_LINES = 1 << 30
"""Largest size in bytes of a file with many lines: metrics, shards, prompt hashes."""


def read_bytes(path: Path, max_bytes: int = MAX_OBJECT) -> bytes:
    """Read a regular file of at most `max_bytes` bytes.

    Raises OSError as `open` does, and also for a larger file or one that is not regular.
    """
    if path.exists() and not path.is_file():
        error_number = errno.EISDIR if path.is_dir() else errno.ENXIO
        raise OSError(
            error_number, "it is a folder" if path.is_dir() else "it is not a regular file", str(path)
        )
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(max_bytes + 1) if size <= max_bytes else b""
    if size > max_bytes or len(content) > max_bytes:
        raise OSError(
            errno.EOVERFLOW, f"more than {max_bytes:,} bytes, larger than any file of a run", str(path)
        )
    return content


def read_text(path: Path, max_bytes: int = MAX_OBJECT) -> str:
    """Read UTF-8 text with `read_bytes`."""
    return read_bytes(path, max_bytes).decode("utf-8")
