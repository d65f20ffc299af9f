"""Read files, decompressing gzip, bzip2 and xz as a stream with a size limit: a small file may expand to terabytes."""

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
"""Maximum bytes read from one file, after decompression."""
MAX_RATIO = 200
"""Largest accepted compression ratio; rows of text reach 3 to 50."""
RATIO_CHECK_BYTES = 64 << 20
"""Decompressed bytes up to which the compression ratio is not checked."""
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
    (b"\x1f\x8b", "a compressed file in a compressed file", "Decompress it once"),
)
"""First bytes of files that hold no rows, what they are, and the fix."""


def read_decompressed(file: Path | Traversable, path: str) -> bytes:
    """Read a file, decompressed where its first bytes say that it is compressed.

    Raises UserError for a file that cannot be read, is damaged, has an unsupported compression, or is larger than
    MAX_BYTES.
    """
    try:
        with file.open("rb") as raw:
            head = raw.read(6)
            raw.seek(0)
            for magic, name in _OTHERS.items():
                if head.startswith(magic):
                    raise UserError(
                        f"this file is compressed with {name.split()[0]}, which is not supported",
                        where=path,
                        fix=f"decompress it first: {name.partition('(')[2].rstrip(')')} {Path(path).name}",
                    )
            opener = next((o for magic, o in _PACKED.items() if head.startswith(magic)), None)
            stream: IO[bytes] = raw if opener is None else opener(raw)
            return _require_rows(_read_limited(stream, None if opener is None else raw, path), path)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise UserError(f"cannot be read ({error})", where=path, fix="copy or download it again") from error


def _require_rows(content: bytes, path: str) -> bytes:
    """Return the content; raise UserError where its first bytes say that it holds no rows."""
    detected = next(((what, fix) for magic, what, fix in _FOREIGN if content.startswith(magic)), None)
    if detected is None and content[257:262] == b"ustar":
        detected = "a tar archive", "Unpack it, and name the file of rows"
    if detected is None and content[:64].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        detected = "a web page", "Download the file itself, not the page that shows it"
    if detected is not None:
        raise UserError(f"this is {detected[0]}", where=path, fix=detected[1])
    return content


def _read_limited(stream: IO[bytes], packed: IO[bytes] | None, path: str) -> bytes:
    """Read a stream up to the limits. `packed` is the compressed file below it, None for an uncompressed one."""
    parts: list[bytes] = []
    size = 0
    while chunk := stream.read(_CHUNK):
        size += len(chunk)
        if size > MAX_BYTES:
            raise UserError(
                f"it holds more than {MAX_BYTES // 1024**2:,} MiB after decompression",
                where=path,
                fix="split it into several files and name them with a pattern such as 'rows-*.jsonl', or use parquet",
            )
        if packed is not None and size > max(RATIO_CHECK_BYTES, MAX_RATIO * packed.tell()):
            raise UserError(
                f"it decompresses to more than {MAX_RATIO} times its size "
                f"({size / 1e6:,.0f} MB from {packed.tell() / 1e6:,.1f} MB), which rows of text do not",
                where=path,
                fix="decompress it, if this is intended, and name the decompressed file",
            )
        parts.append(chunk)
    return b"".join(parts)
