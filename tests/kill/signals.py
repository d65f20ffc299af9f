"""SIGTERM or SIGINT before one forward of a model after the other: exit code, status, and what comes out in the end.

python tests/kill/signals.py sft:2                of one kind of work, before every second forward
python tests/kill/signals.py ppo-steps:1          after each step of an optimiser
python tests/kill/signals.py pipeline-writes:9    before every ninth disk operation of any kind
python tests/kill/signals.py rare                 with a checkpoint every hundred steps: how much is lost
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

import torch  # noqa: E402
from kill import stages  # noqa: E402
from kill.children import TIMEOUT, differences, run, take_own_lock, tree  # noqa: E402
from kill.disk import watch  # noqa: E402

from harken.run import checkpoint, signals  # noqa: E402
from harken.train.optim.optimiser import Optimiser  # noqa: E402

SECONDS = ("seconds", "time/", "tokens_per_second")
"""Beginnings of metrics that measure time: a step that a signal cut in two took other time."""
RARE = {"every": 100, "keep": 2}
TIMED = {"metrics.jsonl", "SHA256SUMS"}
"""Files that seconds are in."""
DERIVED = {"results.json", "report.html"}
"""Files of a pipeline that repeat them."""


def at_every_forward(kind: str, every: int, moves: bool, world: Path, room: Path) -> str:
    """What was seen, in a line. Raises AssertionError when anything came out otherwise."""
    # Between moves a checkpoint of a step half done would do harm where the last one is not of just before.
    work = (
        stages.training(stages.run_config(world, kind, checkpoints=RARE))
        if moves
        else stages.work(world, kind)
    )
    run(work, room / "whole")
    expected, metrics = tree(room / "whole"), _without_seconds(room / "whole")
    codes = []
    for forward in range(1, 400, every):
        folder = room / f"cut-{forward}"
        codes.append(_stopped_at(work, folder, forward, signal.SIGTERM, moves=moves))
        if codes[-1] == 0:  # it was done before it came so far
            break
        if (status := folder / "status.json").exists():
            reported = json.loads(status.read_text())
            kept = checkpoint.latest(folder / "checkpoints")
            assert (reported["state"], reported["stopped_because"]) == (
                "stopped",
                "interrupted by SIGTERM",
            ), reported
            assert reported["completed"] == (kept.step if kept else 0), reported
        run(work, folder)
        odd = {
            name for name in differences(expected, tree(folder)) if not moves or "checkpoints/" not in name
        }
        assert odd <= TIMED, f"stopped at forward {forward}: {odd}"
        assert _without_seconds(folder) == metrics, f"stopped at forward {forward}"
    assert set(codes) == {143, 0}, codes
    return f"{kind}: signals {len(codes) - 1}, identical {len(codes) - 1}"


def at_every_write(kind: str, every: int, world: Path, room: Path) -> str:
    """What was seen, in a line: a signal before a disk operation, of whatever stage, ends the command with its code.

    Raises AssertionError when a signal was forgotten, or when what the next command makes is not the whole run's.
    """
    work = stages.work(world, kind)
    folder = room / "work"  # always the same: a pipeline writes down where its stages lie
    work_operations = run(work, folder)
    expected, metrics = tree(folder), _all_without_seconds(folder)
    points = range(1, work_operations + 1, every)
    for nth, point in enumerate(points):
        number = signals.SIGNALS[nth % 3]
        shutil.rmtree(folder)
        code = _stopped_at(work, folder, point, number, writes=True)
        assert code == 128 + number, f"operation {point} of {work_operations}: exit code {code}"
        run(work, folder)
        odd = {n for n in differences(expected, tree(folder)) if Path(n).name not in TIMED | DERIVED}
        assert not odd, f"stopped at operation {point}: {odd}"
        assert _all_without_seconds(folder) == metrics, f"stopped at operation {point}"
    return f"{kind}: signals {len(points)}, identical {len(points)}"


def how_much_is_lost(world: Path, room: Path) -> str:
    """The steps that were kept, of all that were finished. Raises AssertionError when a finished one was lost."""
    config = stages.run_config(world, "sft", checkpoints=RARE)
    done, unlogged = set(), set()
    for forward in range(1, 60):
        folder = room / f"{forward}"
        if _stopped_at(stages.training(config), folder, forward, signal.SIGINT) != 130:
            break
        if not (folder / "status.json").exists():  # it was still loading
            continue
        completed = json.loads((folder / "status.json").read_text())["completed"]
        logged = len(_without_seconds(folder)) if completed else 0
        assert completed - logged in (0, 1), (forward, completed, logged)
        done.add(completed)
        unlogged |= {completed} if completed > logged else set()
    # Every second step is checked on held-out rows: stopped there, it is done and has no line yet.
    assert (done, unlogged) == ({0, 1, 2, 3, 4}, {2, 4}), (done, unlogged)
    return f"kept after {sorted(done)} steps"


def _stopped_at(
    work: Callable[[Path], object], folder: Path, forward: int, number: int, *, moves: bool = False,
    writes: bool = False,
) -> int:  # fmt: skip
    """The exit code of a child that does the work and sends itself a signal at a forward, a move or a write."""
    child = os.fork()
    if child == 0:
        signal.setitimer(signal.ITIMER_REAL, TIMEOUT)
        take_own_lock()
        # Who starts the tests in the background of a script starts them with SIGINT ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        log = os.open(folder.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        if writes:
            watch(folder, folder.with_suffix(".attic"), forward, number=number)
        else:
            (_send_after_step if moves else _send_before)(forward, number)
        signals.raise_on_terminate()  # as the command line does
        try:
            work(folder)
        except signals.Stopped as stop:
            os._exit(int(stop.code or 0))
        except KeyboardInterrupt:
            os._exit(130)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _send_before(forward: int, number: int) -> None:
    """Where a run asks whether it should stop: every forward, every token of a response, between steps."""
    original, seen = signals.raise_if_stopped, iter(range(1, 10**9))

    def counted() -> None:
        if next(seen) == forward:
            os.kill(os.getpid(), number)
        original()

    signals.raise_if_stopped = counted


def _send_after_step(step: int, number: int) -> None:
    """As soon as an optimiser has changed weights: an update of PPO does so several times."""
    original, seen = Optimiser.step, iter(range(1, 10**9))

    def counted(self: Optimiser, lr_scale: float) -> None:
        original(self, lr_scale)
        if next(seen) == step:
            os.kill(os.getpid(), number)

    Optimiser.step = counted  # type: ignore[method-assign]


def _without_seconds(folder: Path) -> list[dict[str, Any]]:
    path = folder / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [{k: v for k, v in line.items() if not k.startswith(SECONDS)} for line in lines]


def _all_without_seconds(folder: Path) -> dict[str, list[dict[str, Any]]]:
    runs = sorted(path.parent for path in folder.rglob("metrics.jsonl"))
    return {str(run.relative_to(folder)): _without_seconds(run) for run in runs}


def what(job: str, world: Path, room: Path) -> str:
    """Do one job, such as `sft:2`, `ppo-steps:5`, `pipeline-writes:9` or `rare`. Returns a line on what was seen."""
    name, _, every = job.partition(":")
    kind, _, where = name.partition("-")
    if kind == "rare":
        return how_much_is_lost(world, room)
    if where == "writes":
        return at_every_write(kind, int(every), world, room)
    return at_every_forward(kind, int(every), where == "steps", world, room)


def main() -> None:
    """Print a line for each job."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("jobs", nargs="*", default=["sft:1", "reward:1", "ppo:1", "evaluation:1"])
    given = parser.parse_args()
    os.environ["SOURCE_DATE_EPOCH"] = "0"
    torch.set_num_threads(1)
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as name:
        world = Path(name) / "world"
        world.mkdir()
        run(lambda folder: stages.make_world(world), Path(name) / "making")
        for job in given.jobs:
            (room := Path(name) / job).mkdir()
            print(what(job, world, room), flush=True)
            shutil.rmtree(room)


if __name__ == "__main__":
    main()
