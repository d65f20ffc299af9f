"""What came of every chain of kills and of every full disk: kept in a file, so that a measurement can be continued.

One JSON line each. Lines of other code, another seed or other kinds of work are left where they are and not counted.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE = ("src/harken", "tests/kill")


@dataclass(frozen=True)
class Outcome:
    """Of one chain of kills (`full` is false), or of one disk that is full from one operation on."""

    kind: str
    seed: int
    number: int
    """Of the chain, or the operation at which the disk is full."""
    full: bool = False
    operations: int = 0
    """Of the work when nobody kills it."""
    moments: int = 0
    """Kinds of operations among them."""
    kills: int = 0
    resumed: int = 0
    """Times that the work was started again in the folder that a kill left."""
    in_recovery: int = 0
    power_cuts: int = 0
    gave_up: int = 0
    places: tuple[str, ...] = ()
    """Kinds of operations before which it was killed."""
    fault: str = ""
    """What was not as in the uninterrupted run; "" for identical."""
    code: str = field(default_factory=lambda: code_hash())


@dataclass(frozen=True)
class Record:
    """A file of outcomes, which several processes may append to. Without a path nothing is kept."""

    path: Path | None = None

    def add(self, outcome: Outcome) -> None:
        """Append a line, in one write."""
        if self.path is not None:
            with self.path.open("ab", buffering=0) as file:
                file.write((json.dumps(asdict(outcome)) + "\n").encode())
                os.fsync(file.fileno())

    def outcomes(self, kind: str, seed: int) -> list[Outcome]:
        """What this code did to work of one kind, each chain and each full disk once. A torn line is left out."""
        if self.path is None or not self.path.exists():
            return []
        found: dict[tuple[bool, int], Outcome] = {}
        for line in self.path.read_text().splitlines():
            try:
                keys = json.loads(line)
            except json.JSONDecodeError:
                continue
            one = Outcome(**{**keys, "places": tuple(keys["places"])})
            if (one.kind, one.seed, one.code) == (kind, seed, code_hash()):
                found[one.full, one.number] = one
        return list(found.values())


@functools.cache
def code_hash() -> str:
    """Of the package and of this harness: an outcome says nothing about other code."""
    digest = hashlib.sha256()
    for folder in CODE:
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


HEAD = (
    f"{'work':<11}{'operations':>11}{'chains':>8}{'kills':>8}{'in recovery':>13}{'power cuts':>12}{'moments':>9}"
    f"{'full disks':>12}{'gave up':>9}{'resumed':>9}{'identical':>11}{'mismatches':>12}"
)


def table_line(kind: str, outcomes: Iterable[Outcome]) -> str:
    """For the table: `moments` are the kinds of operations it was killed at, of all that the work has."""
    found = list(outcomes)
    chains = [one for one in found if not one.full]
    places = {place for one in chains for place in one.places}
    wrong = sum(bool(one.fault) for one in found)
    first = found[0] if found else Outcome(kind, 0, 0)
    moments = f"{len(places)}/{first.moments}"
    return (
        f"{kind:<11}{first.operations:>11}{len(chains):>8}{sum(o.kills for o in chains):>8}"
        f"{sum(o.in_recovery for o in chains):>13}{sum(o.power_cuts for o in chains):>12}{moments:>9}"
        f"{len(found) - len(chains):>12}{sum(o.gave_up for o in found):>9}{sum(o.resumed for o in found):>9}"
        f"{len(found) - wrong:>11}{wrong:>12}"
    )
