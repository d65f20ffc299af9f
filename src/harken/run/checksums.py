"""SHA256SUMS: what a finished folder holds, so that a damaged file is found before it is used.

    # sealed by Harken: sha256sum -c SHA256SUMS
    9f86d081…  config.yml
    60303ae2…  rollouts/update-000001.parquet
    # sha256 of the lines above: 2c26b46b…

`sha256sum -c` passes over lines that begin with #. The last one covers the seal itself: also a line that is
gone is found. A seal finds damage, not forgery. No torch.
"""

from __future__ import annotations

import errno
import hashlib
import re
import stat
import time
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from harken.errors import UserError
from harken.run import atomic, bounded

CHECKSUMS = "SHA256SUMS"
DEEPEST = 2
"""Parts of the longest sealed path: a file of the folder, or of a folder in it."""
RECENT = 2 * 10**9
"""Nanoseconds. Two changes within a tick of the disk's clock leave the same time: what is newer is read again."""

_FIRST = f"# sealed by Harken: sha256sum -c {CHECKSUMS}\n".encode()
_LAST = re.compile(rb"^# sha256 of the lines above: [0-9a-f]{64}\n\Z", re.MULTILINE)


def write_checksums(folder: Path, files: Iterable[Path] | None = None) -> None:
    """Write the seal of `folder` over `files` (None: every file in it), last of all.

    They are flushed to the disk before: a power cut leaves no seal over files that were lost.
    Raises ValueError for a file that lies too deep, or whose name `sha256sum` would write in another way.
    """
    found = folder.rglob("*") if files is None else files
    chosen = [path for path in found if path.is_file() and path.name != CHECKSUMS]
    sums = {}
    for path in chosen:
        name = path.relative_to(folder).as_posix()
        if len(Path(name).parts) > DEEPEST or "\n" in name or "\\" in name:
            raise ValueError(f"{name!r} cannot be sealed")
        atomic.sync(path)
        sums[name] = file_sha256(path)
    for inner in {path.parent for path in chosen}:
        atomic.sync(inner)
    atomic.write_bytes(folder / CHECKSUMS, _text(sums))


def remove_checksums(folder: Path) -> None:
    """Take the seal away, for good, before anything in `folder` changes."""
    if (folder / CHECKSUMS).exists():
        (folder / CHECKSUMS).unlink()
        atomic.sync(folder)


def verify_file(path: Path) -> None:
    """Raise UserError when a seal lists `path` and it is not as it was sealed. What no seal lists passes."""
    path = path.absolute()
    for folder in path.parents[:DEEPEST]:
        name = path.relative_to(folder).as_posix()
        if (sha256 := (read_checksums(folder) or {}).get(name)) is not None:
            _require(path, sha256)
            return


def verify_folder(folder: Path, *, weights: bool = True) -> None:
    """`check` every file that the seal of `folder` itself lists. Without `weights`, no *.safetensors is read."""
    for name, sha256 in (read_checksums(folder) or {}).items():
        if weights or not name.endswith(".safetensors"):
            _require(folder / name, sha256)


def read_verified_text(path: Path, largest: int = bounded.MAX_OBJECT) -> str:
    """The UTF-8 text of a file. Raises UserError as `check` does, and when it cannot be read or is too large."""
    verify_file(path)
    try:
        return bounded.read_text(path, largest)
    except OSError as error:
        raise _unreadable(path, error) from error


def read_checksums(folder: Path) -> dict[str, str] | None:
    """Path within `folder` → sha256 of every file its seal lists. None without a seal; another tool's
    SHA256SUMS is none.

    Raises UserError when the seal is not as it was written.
    """
    path = folder / CHECKSUMS
    try:
        written = bounded.read_bytes(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _unreadable(path, error) from error
    lines = written.decode(errors="replace").split("\n")
    sums = {line[66:]: line[:64] for line in lines[1:-2]}
    # Writing it again leaves no byte of the seal unchecked.
    if written == _text(sums):
        return sums
    # A cut leaves the first line or its beginning; one wrong byte leaves the first line or the last.
    if not _FIRST.startswith(written[: len(_FIRST)]) and not _LAST.search(written):
        return None
    raise UserError(
        "is damaged, and without it nothing tells whether the files beside it are whole",
        where=str(path),
        fix="Restore it from a copy, or delete it to read them unchecked",
    )


def file_problem(path: Path, sha256: str) -> str | None:
    """What is wrong with a sealed file, in words; None when it is whole."""
    try:
        found = file_sha256(path)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None if found == sha256 else f"is damaged: its sha256 is not the one in {CHECKSUMS}"


def file_sha256(path: Path) -> str:
    """The sha256 of a file, in hex. A file that keeps its path, size and times is read once a process."""
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise OSError(errno.ENXIO, "it is no regular file", str(path))
    key = (path.resolve(), facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
    recent = time.time_ns() - max(facts.st_mtime_ns, facts.st_ctime_ns) < RECENT
    return _digest.__wrapped__(*key) if recent else _digest(*key)


@lru_cache(maxsize=4096)
def _digest(path: Path, size: int, modified_ns: int, changed_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(f"cannot be read ({error.strerror})", where=str(path), fix="Restore it from a copy")


def _require(path: Path, sha256: str) -> None:
    if (wrong := file_problem(path, sha256)) is not None:
        raise UserError(
            wrong,
            where=str(path),
            fix="Restore it from a copy, or let the command that wrote it write another folder; "
            f"if it was changed on purpose, delete the {CHECKSUMS} that lists it",
        )


def _text(sums: Mapping[str, str]) -> bytes:
    above = _FIRST + "".join(f"{sums[name]}  {name}\n" for name in sorted(sums)).encode()
    return above + f"# sha256 of the lines above: {hashlib.sha256(above).hexdigest()}\n".encode()
