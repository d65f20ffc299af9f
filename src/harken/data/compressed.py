"""Files packed by gzip, bzip2 or xz, unpacked as a stream and up to a limit: a small file may hold terabytes."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import IO, Any

from harken.errors import UserError

MAX_BYTES = 4 * 1024**3
"""Bytes that are read of one file, unpacked."""
MAX_RATIO = 200
"""Times its packed size: rows of text unpack to 3 to 50 times theirs."""
RATIO_CHECK_BYTES = 64 << 20
"""Bytes that may unpack from anything."""
_CHUNK = 1 << 20
_PACKED: dict[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": lambda raw: gzip.GzipFile(fileobj=raw),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}
_OTHERS = {
    b"\x28\xb5\x2f\xfd": "zstandard (zstd -d)",
    b"PK\x03\x04": "zip (unzip)",
    b"7z\xbc\xaf": "7-zip (7z x)",
}
_SAVE = "Write the rows as JSONL, CSV or parquet"
_PICKLE = "a pickle, which could run code when it is opened"
_FOREIGN = (
    *((b"\x80" + bytes([version]), _PICKLE, _SAVE) for version in (2, 3, 4, 5)),
    (b"SQLite format 3\x00", "an SQLite database", _SAVE),
    (b"\x89HDF", "an HDF5 file", _SAVE),
    (b"\x93NUMPY", "a NumPy array", _SAVE),
    (b"%PDF", "a PDF", _SAVE),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "Run: git lfs pull"),
    (b"\x1f\x8b", "a packed file in a packed file", "Unpack it once"),
)
"""First bytes of what holds no rows, what it is, and the fix."""


def read_bytes(file: Path | Traversable, path: str) -> bytes:
    """Return the contents of a file, unpacked where it is packed, whatever its name.

    Raises UserError for a file that cannot be read, is damaged, is packed by a program that is not read, or is larger
    than MAX_BYTES.
    """
    try:
        with file.open("rb") as raw:
            head = raw.read(6)
            raw.seek(0)
            for magic, name in _OTHERS.items():
                if head.startswith(magic):
                    raise UserError(
                        f"this file is packed by {name.split()[0]}, which is not read",
                        where=path,
                        fix=f"Unpack it first: {name.partition('(')[2].rstrip(')')} {Path(path).name}",
                    )
            opener = next((o for magic, o in _PACKED.items() if head.startswith(magic)), None)
            stream: IO[bytes] = raw if opener is None else opener(raw)
            return _known(_up_to_the_limit(stream, None if opener is None else raw, path), path)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise UserError(
            f"cannot be read ({error})", where=path, fix="If it was copied or downloaded, do that again"
        ) from error


def _known(content: bytes, path: str) -> bytes:
    """The content; UserError where its first bytes say that it holds no rows."""
    found = next(((what, fix) for magic, what, fix in _FOREIGN if content.startswith(magic)), None)
    if found is None and content[257:262] == b"ustar":
        found = "a tar archive", "Unpack it, and name the file of rows"
    if found is None and content[:64].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        found = "a web page", "Download the file itself, not the page that shows it"
    if found is not None:
        raise UserError(f"this is {found[0]}", where=path, fix=found[1])
    return content


def _up_to_the_limit(stream: IO[bytes], packed: IO[bytes] | None, path: str) -> bytes:
    """All of a stream. `packed` is the file it unpacks, read as far as it was needed."""
    parts: list[bytes] = []
    size = 0
    while chunk := stream.read(_CHUNK):
        size += len(chunk)
        if size > MAX_BYTES:
            raise UserError(
                f"it holds more than {MAX_BYTES // 1024**2:,} MiB, unpacked",
                where=path,
                fix="Split it into several files and name them with a pattern such as 'rows-*.jsonl', or use parquet",
            )
        if packed is not None and size > max(RATIO_CHECK_BYTES, MAX_RATIO * packed.tell()):
            raise UserError(
                f"it unpacks to more than {MAX_RATIO} times its size "
                f"({size / 1e6:,.0f} MB of {packed.tell() / 1e6:,.1f} MB): rows do not",
                where=path,
                fix="If it is meant, unpack it, and name the unpacked file",
            )
        parts.append(chunk)
    return b"".join(parts)
