"""Finished parts of a long piece of work, so that a second start makes only those that are missing.

parts/<name>.jsonl   the sha256 of all that follows, then one JSON value a line
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harken.run import atomic, bounded
from harken.run.terminal import say


def load_or_make_shard(path: Path, make: Callable[[], Sequence[Any]]) -> list[Any]:
    """The JSON values of a part: read, or, where it is missing or damaged, made and kept.

    Made or read, they are what JSON gives back: tuples become lists. A full disk costs the part, not the work.
    """
    if (kept := _read(path)) is not None:
        return kept
    lines = [json.dumps(value, ensure_ascii=False) for value in make()]
    body = "".join(f"{line}\n" for line in lines).encode()
    try:
        atomic.write_bytes(path, f"{hashlib.sha256(body).hexdigest()}\n".encode() + body)
    except OSError as error:
        if not atomic.disk_is_full(error):
            raise
        say(f"warning: {path} could not be kept, the work goes on: {error.strerror}")
    return [json.loads(line) for line in lines]


def _read(path: Path) -> list[Any] | None:
    try:
        written = bounded.read_bytes(path, bounded.MAX_LINES)
    except FileNotFoundError:
        return None
    except OSError as error:
        say(f"warning: {path} cannot be read ({error.strerror}): it is made again")
        return None
    digest, _, body = written.partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != digest:
        say(f"warning: {path} is damaged: it is made again")
        return None
    return [json.loads(line) for line in body.splitlines()]
