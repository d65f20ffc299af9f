"""Store finished shards of a long computation, so that a resumed run computes only the missing ones.

shards/<name>.jsonl   the sha256 of everything after the first line, then one JSON value per line
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harken.run import atomic, bounded_read
from harken.run.terminal import say


def load_or_make_shard(path: Path, make: Callable[[], Sequence[Any]]) -> list[Any]:
    """Load the JSON values of a shard, or compute and store them if it is missing or damaged.

    In both cases the values have passed through JSON: tuples become lists. On a full disk the shard is not stored.
    """
    if (stored := _read(path)) is not None:
        return stored
    lines = [json.dumps(value, ensure_ascii=False) for value in make()]
    body = "".join(f"{line}\n" for line in lines).encode()
    try:
        atomic.write_bytes(path, f"{hashlib.sha256(body).hexdigest()}\n".encode() + body)
    except OSError as error:
        if not atomic.disk_is_full(error):
            raise
        say(f"warning: {path} could not be stored, the run continues: {error.strerror}")
    return [json.loads(line) for line in lines]


def _read(path: Path) -> list[Any] | None:
    try:
        content = bounded_read.read_bytes(path, bounded_read.MAX_LINES)
    except FileNotFoundError:
        return None
    except OSError as error:
        say(f"warning: {path} cannot be read ({error.strerror}) and is computed again")
        return None
    digest, _, body = content.partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != digest:
        say(f"warning: {path} is damaged and is computed again")
        return None
    return [json.loads(line) for line in body.splitlines()]
