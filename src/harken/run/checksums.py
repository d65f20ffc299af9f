"""Write and verify SHA256SUMS of finished folders, so that a damaged file is detected before it is used.

    # checksums by Harken: sha256sum -c SHA256SUMS
    9f86d081…  config.yml
    60303ae2…  rollouts/update-000001.parquet
    # sha256 of the lines above: 2c26b46b…

`sha256sum -c` ignores lines that begin with #. The last one is a checksum of the lines above, so that missing lines are
detected too. This protects against corruption, not against tampering.
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
from harken.run import atomic, bounded_read

CHECKSUMS = "SHA256SUMS"
MAX_PATH_PARTS = 2
"""Maximum number of components of a listed path: a file in the folder, or in a folder inside it."""
RECENT = 2 * 10**9
"""Nanoseconds. Files changed more recently are always read again: two changes within one tick of the disk's clock get
the same timestamp."""

_FIRST = f"# checksums by Harken: sha256sum -c {CHECKSUMS}\n".encode()
_LAST = re.compile(rb"^# sha256 of the lines above: [0-9a-f]{64}\n\Z", re.MULTILINE)


def write_checksums(folder: Path, files: Iterable[Path] | None = None) -> None:
    """Write the checksums of `files` (None: every file) in `folder`. Call it after all files are written.

    The files are flushed to the disk first, so that a power failure cannot leave checksums of lost files.
    Raises ValueError for a file that is nested too deeply, or whose name `sha256sum` would escape.
    """
    candidates = folder.rglob("*") if files is None else files
    chosen = [path for path in candidates if path.is_file() and path.name != CHECKSUMS]
    sums = {}
    for path in chosen:
        name = path.relative_to(folder).as_posix()
        if len(Path(name).parts) > MAX_PATH_PARTS or "\n" in name or "\\" in name:
            raise ValueError(f"{name!r} cannot be listed in {CHECKSUMS}")
        atomic.sync(path)
        sums[name] = file_sha256(path)
    for inner in {path.parent for path in chosen}:
        atomic.sync(inner)
    atomic.write_bytes(folder / CHECKSUMS, _text(sums))


def remove_checksums(folder: Path) -> None:
    """Delete the checksums of `folder`. Call it before any listed file changes."""
    if (folder / CHECKSUMS).exists():
        (folder / CHECKSUMS).unlink()
        atomic.sync(folder)


def verify_file(path: Path) -> None:
    """Raise UserError if checksums list `path` and it does not match. Unlisted files pass."""
    path = path.absolute()
    for folder in path.parents[:MAX_PATH_PARTS]:
        name = path.relative_to(folder).as_posix()
        if (sha256 := (read_checksums(folder) or {}).get(name)) is not None:
            _require(path, sha256)
            return


def verify_folder(folder: Path, *, weights: bool = True) -> None:
    """Verify every file that the checksums of `folder` list. Without `weights`, *.safetensors are skipped."""
    for name, sha256 in (read_checksums(folder) or {}).items():
        if weights or not name.endswith(".safetensors"):
            _require(folder / name, sha256)


def read_verified_text(path: Path, max_bytes: int = bounded_read.MAX_OBJECT) -> str:
    """Verify and read UTF-8 text. Raises UserError as `verify_file` does, or if the file is unreadable or too large."""
    verify_file(path)
    try:
        return bounded_read.read_text(path, max_bytes)
    except OSError as error:
        raise _unreadable(path, error) from error


def read_checksums(folder: Path) -> dict[str, str] | None:
    """Read relative path → sha256 of every listed file. None if there is no SHA256SUMS, or another tool wrote it.

    Raises UserError if the file was changed.
    """
    path = folder / CHECKSUMS
    try:
        content = bounded_read.read_bytes(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _unreadable(path, error) from error
    lines = content.decode(errors="replace").split("\n")
    sums = {line[66:]: line[:64] for line in lines[1:-2]}
    # Comparing with a rewritten file also detects any changed byte in it.
    if content == _text(sums):
        return sums
    # A truncated file still begins like the first line; with one wrong byte the first or the last line is intact.
    if not _FIRST.startswith(content[: len(_FIRST)]) and not _LAST.search(content):
        return None
    raise UserError(
        "is damaged, so the files it lists cannot be verified",
        where=str(path),
        fix="restore it from a copy, or delete it to read the files without verification",
    )


def file_problem(path: Path, sha256: str) -> str | None:
    """Describe what is wrong with a listed file; None if its checksum matches."""
    try:
        digest = file_sha256(path)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None if digest == sha256 else f"is damaged: its sha256 is not the one in {CHECKSUMS}"


def file_sha256(path: Path) -> str:
    """Compute the sha256 of a file in hex. The result is cached while path, size and timestamps stay the same."""
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise OSError(errno.ENXIO, "it is not a regular file", str(path))
    key = (path.resolve(), facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
    recent = time.time_ns() - max(facts.st_mtime_ns, facts.st_ctime_ns) < RECENT
    return _digest.__wrapped__(*key) if recent else _digest(*key)


@lru_cache(maxsize=4096)
def _digest(path: Path, size: int, modified_ns: int, changed_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(f"cannot be read ({error.strerror})", where=str(path), fix="restore it from a copy")


def _require(path: Path, sha256: str) -> None:
    if (wrong := file_problem(path, sha256)) is not None:
        raise UserError(
            wrong,
            where=str(path),
            fix="restore it from a copy, or run the command that wrote it with another output folder; "
            f"if you changed it on purpose, delete the {CHECKSUMS} that lists it",
        )


def _text(sums: Mapping[str, str]) -> bytes:
    above = _FIRST + "".join(f"{sums[name]}  {name}\n" for name in sorted(sums)).encode()
    return above + f"# sha256 of the lines above: {hashlib.sha256(above).hexdigest()}\n".encode()
