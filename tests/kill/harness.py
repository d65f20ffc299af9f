"""`make test-kill`: kill, start again, compare with the run that nobody killed.

    python tests/kill/harness.py                          500 kills of each kind of work
    python tests/kill/harness.py ppo --points 5000        more, of one kind
    python tests/kill/harness.py --seed 7                 other moments
    python tests/kill/harness.py dpo --record kills.jsonl --minutes 9     for nine minutes; the same command goes on

A chain begins in an empty folder. Its first child is killed before a disk operation, in each chain another, one of each
kind at first; the child that goes on is killed too, at a random operation or time; every third chain loses what was not
flushed, as in a power cut. The last child comes to its end, and every file must be the uninterrupted run's, byte for
byte. Then the disk is full at one operation in turn after the other, at about a sixth as many as points.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

import torch  # noqa: E402
from kill import stages  # noqa: E402
from kill.children import NO_ROOM, differences, run, tree  # noqa: E402
from kill.record import HEAD, Outcome, Record, table_line  # noqa: E402

STRIDE = 37
"""Of the first kills: neighbours in time are far apart, and in the end each operation had its turn."""
RECOVERIES = 9
"""Children that go on and are killed in turn, a chain, at most."""
Work = Callable[[Path], object]


@dataclass(frozen=True)
class Task:
    """What one process measures: of the chains and full disks of one kind of work, the even or the odd ones."""

    kind: str
    world: Path
    room: Path
    points: int
    seed: int
    half: int
    record: Record
    until: float
    """Begin nothing after this time (`time.monotonic`)."""


@dataclass(frozen=True)
class Whole:
    """The run that nobody kills."""

    moments: tuple[str, ...]
    """The kind of each of its disk operations, in order."""
    seconds: float
    files: dict[str, str]

    def first_kill(self, chain: int) -> int:
        """At which operation (from 1) a chain is killed first: one of each kind, then all by the stride."""
        kinds = list(dict.fromkeys(self.moments))
        if chain < len(kinds):
            return self.moments.index(kinds[chain]) + 1
        count = len(self.moments)
        stride = next(n for n in range(STRIDE, STRIDE + count + 1) if math.gcd(n, count) == 1)
        return (chain - len(kinds)) * stride % count + 1


def measure(task: Task) -> list[Outcome]:
    """Kill work of one kind at half of `points` moments or more, or until the time is over.

    Returns all outcomes, with those that the record already has.
    """
    torch.set_num_threads(1)
    work, folder = stages.work(task.world, task.kind), task.room / task.kind
    recorded = task.record.outcomes(task.kind, task.seed)
    found = [one for one in recorded if (one.number - one.full) % 2 == task.half]
    whole: Whole | None = None
    for number, full in _still_to_do(task, found):
        if time.monotonic() >= task.until:
            break
        if whole is None:
            work(task.room / "warm")  # what is imported on the way is there for every child
            whole = _undisturbed(work, folder)
        blank = Outcome(task.kind, task.seed, number, full, len(whole.moments), len(set(whole.moments)))
        one = (_on_a_full_disk if full else _chain)(blank, work, folder, whole)
        task.record.add(one)
        found.append(one)
    return found


def _still_to_do(task: Task, found: list[Outcome]) -> Iterator[tuple[int, bool]]:
    """Yield chains until there are enough kills, then operations at which the disk is full; `found` grows meanwhile.

    There are at least as many chains as kinds of moments, unless few points are asked for.
    """
    points = -(-task.points // 2)
    done = {(one.number, one.full) for one in found}
    chain = task.half
    while sum(one.kills for one in found) < points or chain < min(found[0].moments, task.points // 4):
        if (chain, False) not in done:
            yield chain, False
        chain += 2
    operations = found[0].operations
    for full_at in range(1 + task.half, operations + 1, 2 * max(1, operations * 6 // points)):
        if (full_at, True) not in done:
            yield full_at, True


def _undisturbed(work: Work, folder: Path) -> Whole:
    began, moments = time.monotonic(), list[str]()
    run(work, folder, moments=moments)
    return Whole(tuple(moments), time.monotonic() - began, tree(folder))


def _but_checkpoints(files: dict[str, str]) -> dict[str, str]:
    """One that found no room is left out: all that comes of the run has to be the same without it."""
    return {name: sha256 for name, sha256 in files.items() if "checkpoints/" not in name}


def _on_a_full_disk(blank: Outcome, work: Work, folder: Path, whole: Whole) -> Outcome:
    """It goes on without what found no room, or gives up saying so and goes on when started again."""
    shutil.rmtree(folder, ignore_errors=True)
    gave_up, where = 0, f"{blank.kind}, disk full at {blank.number}"
    try:
        if run(work, folder, full_at=blank.number) == NO_ROOM:
            gave_up = 1
            run(work, folder)
        odd = differences(_but_checkpoints(whole.files), _but_checkpoints(tree(folder)))
    except (RuntimeError, TimeoutError) as error:
        odd = [str(error)]
    fault = f"{where}: {'; '.join(odd)}" if odd else ""
    return replace(blank, gave_up=gave_up, resumed=gave_up, fault=fault)


def _chain(blank: Outcome, work: Work, folder: Path, whole: Whole) -> Outcome:
    for path in (folder, folder.with_suffix(".attic")):
        shutil.rmtree(path, ignore_errors=True)
    chance = random.Random(f"{blank.seed} {blank.kind} {blank.number}")
    power = chance.randrange(2**32) if blank.number % 3 == 2 else None
    first = whole.first_kill(blank.number)
    done = _Killed(work, folder)
    try:
        done.child(kill_at=first, power=power)
        for _ in range(RECOVERIES):
            if done.ended:
                break
            at, after = chance.randint(1, max(len(whole.moments) // 2, 1)), None
            if chance.random() < 0.3:
                at, after = None, chance.uniform(0, whole.seconds)
            shutil.rmtree(folder.with_suffix(".attic"), ignore_errors=True)
            truncated = None if power is None or after is not None else chance.randrange(2**32)
            done.child(kill_at=at, after=after, power=truncated)
        if not done.ended:
            done.child()
        odd = differences(whole.files, tree(folder))
    except (RuntimeError, TimeoutError) as error:
        odd = [str(error)]
    where = f"{blank.kind}, chain {blank.number}, first killed at {first}, power {power}"
    return replace(
        blank,
        kills=done.kills,
        resumed=done.children - 1,
        in_recovery=done.kills - done.first_killed,
        power_cuts=done.power_cuts,
        places=tuple(sorted(done.places & set(whole.moments))),
        fault=f"{where}: {'; '.join(odd)}" if odd else "",
    )


class _Killed:
    """Children that work in one folder after each other, and how they were killed."""

    def __init__(self, work: Work, folder: Path) -> None:
        self.work, self.folder = work, folder
        self.children = self.kills = self.first_killed = self.power_cuts = 0
        self.ended = False
        self.places: set[str] = set()

    def child(
        self, *, kill_at: int | None = None, after: float | None = None, power: int | None = None
    ) -> None:
        """Start the work and kill it."""
        moments: list[str] = []
        self.children += 1
        operations = run(self.work, self.folder, kill_at=kill_at, after=after, power=power, moments=moments)
        self.ended = operations >= 0
        if not self.ended:
            self.kills += 1
            self.first_killed += self.children == 1
            self.power_cuts += power is not None
            self.places |= set(moments)


def main() -> int:
    """Print the table; 1 when anything came out otherwise, 3 when the time was over before all points were reached."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kinds", nargs="*", default=list(stages.KINDS), help=" ".join(stages.KINDS))
    parser.add_argument("--points", type=int, default=500, help="kills of each kind of work [%(default)s]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--record", type=Path, help="keep the outcomes in this file, and go on from what it has"
    )
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="stop after this time; needs --record"
    )
    parser.add_argument("--processes", type=int, default=2, help="at one time [%(default)s]")
    given = parser.parse_args()
    if given.minutes < math.inf and given.record is None:
        parser.error("--minutes needs --record, or what was done is lost")
    began = time.monotonic()
    record, until = Record(given.record), began + 60 * given.minutes
    outcomes = all_of(given.kinds, given.points, given.seed, record, until, given.processes)
    print(HEAD)
    for kind in given.kinds:
        print(table_line(kind, [one for one in outcomes if one.kind == kind]))
    for one in outcomes:
        if one.fault:
            print(one.fault, file=sys.stderr)
    kills, full = sum(one.kills for one in outcomes), sum(one.full for one in outcomes)
    wrong = sum(bool(one.fault) for one in outcomes)
    compared = f"runs compared {len(outcomes)}, identical {len(outcomes) - wrong}"
    print(f"kills {kills}, full disks {full}, {compared}, {time.monotonic() - began:.0f} s")
    if time.monotonic() >= until:
        print("stopped by --minutes: the same command goes on", file=sys.stderr)
    return 1 if wrong else 3 if time.monotonic() >= until else 0


def all_of(
    kinds: Sequence[str], points: int, seed: int, record: Record, until: float, processes: int
) -> list[Outcome]:
    """Every kind in processes of its own, two by default at a time: a fork wants a parent without threads."""
    os.environ["SOURCE_DATE_EPOCH"] = "0"
    torch.set_num_threads(1)
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as room:
        world = Path(room) / "world"
        world.mkdir()
        run(lambda folder: stages.make_world(world), Path(room) / "making")
        tasks = [
            Task(kind, world, Path(room) / f"{kind}-{half}", points, seed, half, record, until)
            for kind in kinds
            for half in (0, 1)
        ]
        for task in tasks:
            task.room.mkdir()
        with ProcessPoolExecutor(processes, mp_context=get_context("fork")) as pool:
            return [one for found in pool.map(measure, tasks) for one in found]


if __name__ == "__main__":
    sys.exit(main())
