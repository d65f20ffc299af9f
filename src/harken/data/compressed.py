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

LIMIT = 4 * 1024**3
"""Bytes that are read of one file, unpacked."""
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


def read_bytes(file: Path | Traversable, path: str) -> bytes:
    """Return the contents of a file, unpacked where it is packed, whatever its name.

    Raises UserError for a file that cannot be read, is damaged, is packed by a program that is not read, or is larger
    than LIMIT.
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
                        mend=f"Unpack it first: {name.partition('(')[2].rstrip(')')} {Path(path).name}",
                    )
            opener = next((o for magic, o in _PACKED.items() if head.startswith(magic)), None)
            stream: IO[bytes] = raw if opener is None else opener(raw)
            return _up_to_the_limit(stream, path)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise UserError(
            f"cannot be read ({error})", where=path, mend="If it was copied or downloaded, do that again"
        ) from error


def _up_to_the_limit(stream: IO[bytes], path: str) -> bytes:
    parts: list[bytes] = []
    size = 0
    while chunk := stream.read(_CHUNK):
        size += len(chunk)
        if size > LIMIT:
            raise UserError(
                f"it holds more than {LIMIT // 1024**2:,} MiB, unpacked",
                where=path,
                mend="Split it into several files and name them with a pattern such as 'rows-*.jsonl', or use parquet",
            )
        parts.append(chunk)
    return b"".join(parts)
