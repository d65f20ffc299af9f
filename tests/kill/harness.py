"""`make test-kill`: kill, start again, compare with the run that nobody killed.

    python tests/kill/harness.py                          500 kills of each kind of work
    python tests/kill/harness.py ppo --points 5000        more, of one kind
    python tests/kill/harness.py --seed 7                 other moments

A chain begins in an empty folder. Its first child is killed before a disk operation, in each chain another; the child
that goes on is killed too, at a random operation or moment; every third chain loses what was not flushed, as in a power
cut. The last child comes to its end, and every file must be the uninterrupted run's, byte for byte. Then the disk is
full at one operation in turn after the other, at about a sixth as many as points.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

import torch  # noqa: E402
from kill import stages  # noqa: E402
from kill.children import NO_ROOM, differences, run, tree  # noqa: E402

STRIDE = 37
"""Of the first kills: neighbours in time are far apart, and in the end each operation had its turn."""
Work = Callable[[Path], object]
RECOVERIES = 9
"""Children that go on and are killed in turn, a chain, at most."""


@dataclass
class Count:
    """Of one kind of work."""

    kind: str
    operations: int = 0
    chains: int = 0
    kills: int = 0
    during_recovery: int = 0
    power_cuts: int = 0
    full: int = 0
    gave_up: int = 0
    faults: tuple[str, ...] = ()

    def line(self) -> str:
        """For the table."""
        runs = self.chains + self.full
        return (
            f"{self.kind:<11}{self.operations:>11}{self.chains:>8}{self.kills:>8}{self.during_recovery:>16}"
            f"{self.power_cuts:>12}{self.full:>11}{self.gave_up:>9}{runs - len(self.faults):>11}"
            f"{len(self.faults):>12}"
        )


HEAD = (
    f"{'work':<11}{'operations':>11}{'chains':>8}{'kills':>8}{'in recovery':>16}{'power cuts':>12}"
    f"{'full disks':>11}{'gave up':>9}{'identical':>11}{'mismatches':>12}"
)


def measure(kind: str, world: Path, room: Path, points: int, seed: int, half: int) -> Count:
    """Kill work of one kind at `points` moments or more: of all chains, the even or the odd ones."""
    torch.set_num_threads(1)
    work = stages.work(world, kind)
    folder = room / kind
    work(room / "warm")  # what is imported on the way is there for every child
    count = Count(kind)
    began = time.monotonic()
    count.operations = run(work, folder)
    seconds = time.monotonic() - began
    expected = tree(folder)
    errors: list[str] = []
    while count.kills < points:
        chain = 2 * count.chains + half
        chance = random.Random(f"{seed} {kind} {chain}")
        power = chance.randrange(2**32) if chain % 3 == 2 else None
        first = chain * STRIDE % count.operations + 1
        try:
            found = _chain(count, work, folder, first, power, chance, seconds)
            odd = differences(expected, found)
        except (RuntimeError, TimeoutError) as error:
            odd = [str(error)]
        count.chains += 1
        if odd:
            errors.append(f"{kind}, chain {chain}, first killed at {first}, power {power}: {'; '.join(odd)}")
    for full_at in range(1 + half, count.operations + 1, 2 * max(1, count.operations * 6 // points)):
        try:
            odd = differences(
                *map(_but_checkpoints, (expected, _on_a_full_disk(count, work, folder, full_at)))
            )
        except (RuntimeError, TimeoutError) as error:
            odd = [str(error)]
        if odd:
            errors.append(f"{kind}, disk full at {full_at}: {'; '.join(odd)}")
    count.faults = tuple(errors)
    return count


def _but_checkpoints(files: dict[str, str]) -> dict[str, str]:
    """One that found no room is left out: all that comes of the run has to be the same without it."""
    return {name: sha256 for name, sha256 in files.items() if "checkpoints/" not in name}


def _on_a_full_disk(count: Count, work: Work, folder: Path, full_at: int) -> dict[str, str]:
    """It goes on without what found no room, or gives up saying so and goes on when started again."""
    shutil.rmtree(folder, ignore_errors=True)
    count.full += 1
    if run(work, folder, full_at=full_at) == NO_ROOM:
        count.gave_up += 1
        run(work, folder)
    return tree(folder)


def _chain(
    count: Count,
    work: Work,
    folder: Path,
    first: int,
    power: int | None,
    chance: random.Random,
    seconds: float,
) -> dict[str, str]:
    for path in (folder, folder.with_suffix(".attic")):
        shutil.rmtree(path, ignore_errors=True)
    ended = run(work, folder, kill_at=first, power=power)
    count.kills += ended < 0
    count.power_cuts += power is not None
    for _ in range(RECOVERIES):
        if ended >= 0:
            break
        at, after = chance.randint(1, max(count.operations // 2, 1)), None
        if chance.random() < 0.3:
            at, after = None, chance.uniform(0, seconds)
        shutil.rmtree(folder.with_suffix(".attic"), ignore_errors=True)
        truncated = None if power is None or after is not None else chance.randrange(2**32)
        ended = run(work, folder, kill_at=at, after=after, power=truncated)
        count.kills += ended < 0
        count.during_recovery += ended < 0
        count.power_cuts += ended < 0 and truncated is not None
    if ended < 0:
        run(work, folder)
    return tree(folder)


def main() -> int:
    """Print the table; 1 when anything came out otherwise."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kinds", nargs="*", default=list(stages.KINDS), help=" ".join(stages.KINDS))
    parser.add_argument("--points", type=int, default=500, help="kills of each kind of work [%(default)s]")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    began = time.monotonic()
    counts = all_of(given.kinds, given.points, given.seed)
    print(HEAD)
    for count in counts:
        print(count.line())
    for error in (error for count in counts for error in count.faults):
        print(error, file=sys.stderr)
    kills, chains = sum(c.kills for c in counts), sum(c.chains for c in counts)
    wrong = sum(len(c.faults) for c in counts)
    full = sum(c.full for c in counts)
    compared = f"runs compared {chains + full}, identical {chains + full - wrong}"
    print(f"kills {kills}, full disks {full}, {compared}, {time.monotonic() - began:.0f} s")
    return int(wrong > 0)


def all_of(kinds: list[str], points: int, seed: int) -> list[Count]:
    """Every kind in a process of its own, two at a time: a fork wants a parent without threads."""
    os.environ["SOURCE_DATE_EPOCH"] = "0"
    torch.set_num_threads(1)
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as room:
        world = Path(room) / "world"
        world.mkdir()
        run(lambda folder: stages.make_world(world), Path(room) / "making")
        pieces = [
            (kind, world, Path(room) / f"{kind}-{i}", -(-points // 2), seed, i)
            for kind in kinds
            for i in (0, 1)
        ]
        for _, _, own, *_ in pieces:
            own.mkdir()
        with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
            halves = list(pool.map(measure, *zip(*pieces, strict=True)))
    return [_together(halves[i], halves[i + 1]) for i in range(0, len(halves), 2)]


def _together(a: Count, b: Count) -> Count:
    return Count(
        a.kind, a.operations, a.chains + b.chains, a.kills + b.kills, a.during_recovery + b.during_recovery,
        a.power_cuts + b.power_cuts, a.full + b.full, a.gave_up + b.gave_up, a.faults + b.faults,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
