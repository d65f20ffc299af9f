"""Keep every verdict in an append-only file, by content, so that a killed run can resume. No torch."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harken.judging.endpoint import TRANSPORT_PROBLEM
from harken.judging.pair import PairVerdict, ResponsePair
from harken.run import atomic, bounded_read
from harken.run.terminal import say


class VerdictCache:
    """Look up verdicts by (judge, conversation, responses, order), and append new ones.

    A damaged line is not used and its pair is asked again; an incomplete last line, from a killed process, is
    removed. Without a path nothing is stored.
    """

    def __init__(self, path: Path | None, identity: Mapping[str, Any]) -> None:
        self.path = path
        self._judge = json.dumps(identity, sort_keys=True)
        self._verdicts: dict[str, PairVerdict] = {}
        if path is not None and path.exists():
            self._read(path)

    def __len__(self) -> int:
        return len(self._verdicts)

    def get(self, pair: ResponsePair) -> PairVerdict | None:
        """Return the verdict on a pair in this order; None if there is none yet."""
        return self._verdicts.get(self._key(pair))

    def add(self, verdicts: Iterable[tuple[ResponsePair, PairVerdict]]) -> None:
        """Append verdicts and flush them to the disk. Failures of the endpoint are not stored."""
        storable = {
            self._key(pair): verdict
            for pair, verdict in verdicts
            if not (verdict.problem or "").startswith(TRANSPORT_PROBLEM)
        }
        self._verdicts |= storable
        if self.path is None or not storable:
            return
        atomic.make_folder(self.path.parent)
        is_new = not self.path.exists()
        with self.path.open("ab") as file:
            file.write("".join(_line(key, verdict) for key, verdict in storable.items()).encode())
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            atomic.sync(self.path.parent)

    def _key(self, pair: ResponsePair) -> str:
        return hashlib.sha256(f"{self._judge}\n{pair.content()}".encode()).hexdigest()

    def _read(self, path: Path) -> None:
        content = bounded_read.read_bytes(path, bounded_read.MAX_LINES)
        complete_lines, _, torn = content.rpartition(b"\n")
        if torn:
            atomic.write_bytes(path, complete_lines + b"\n" if complete_lines else b"")
        damaged = 0
        for line in complete_lines.split(b"\n") if complete_lines else ():
            parsed = _parse(line)
            if parsed is None:
                damaged += 1
            else:
                self._verdicts[parsed[0]] = parsed[1]
        if damaged:
            say(f"warning: {path}: {damaged} damaged lines are not used; their pairs are asked again")


def _line(key: str, verdict: PairVerdict) -> str:
    fields = {
        "key": key,
        "probability": verdict.probability,
        "problem": verdict.problem,
        "tokens_in": verdict.tokens_in,
        "tokens_out": verdict.tokens_out,
        "seconds": round(verdict.seconds, 6),
        "measured": verdict.measured,
        "model": verdict.model,
    }
    body = json.dumps(fields, ensure_ascii=True)
    return json.dumps(fields | {"sum": _sum(body)}) + "\n"


def _sum(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:16]


def _parse(line: bytes) -> tuple[str, PairVerdict] | None:
    """Return the key and the verdict of a line; None if it is damaged."""
    try:
        fields = json.loads(line)
        if not isinstance(fields, dict) or fields.pop("sum") != _sum(json.dumps(fields, ensure_ascii=True)):
            return None
        key = str(fields.pop("key"))
        verdict = PairVerdict(**fields)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    p = verdict.probability
    if (p is None) == (verdict.problem is None):
        return None
    if p is not None and not (isinstance(p, float | int) and math.isfinite(p) and 0 <= p <= 1):
        return None
    return key, verdict
