"""Read a file of a run folder whole, unless it is larger than what a run writes. No torch.

A folder may hold a sparse file of a terabyte, a pipe or a device under any name: none is opened to its end.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

MAX_OBJECT = 1 << 26
"""Bytes of a file that is one JSON object or array, or a list of checksums."""
MAX_LINES = 1 << 30
"""Bytes of a file of many lines: metrics, shards, hashes of prompts."""


def read_bytes(path: Path, largest: int = MAX_OBJECT) -> bytes:
    """Read a regular file of at most `largest` bytes.

    Raises OSError as `open` does, and with a message of its own for a larger file or one that is not regular.
    """
    if path.exists() and not path.is_file():
        number = errno.EISDIR if path.is_dir() else errno.ENXIO
        raise OSError(number, "it is a folder" if path.is_dir() else "it is no regular file", str(path))
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(largest + 1) if size <= largest else b""
    if size > largest or len(content) > largest:
        raise OSError(errno.EOVERFLOW, f"more than {largest:,} bytes: no run writes that", str(path))
    return content


def read_text(path: Path, largest: int = MAX_OBJECT) -> str:
    """`read_bytes` as UTF-8."""
    return read_bytes(path, largest).decode("utf-8")
