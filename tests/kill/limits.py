"""A disk without room, below Python: the kernel refuses every write past a size, also those of Rust and C++.

python tests/kill/limits.py ppo                  one kind of work under falling limits on a file's size
python tests/kill/limits.py ppo --steps 40       more of them

RLIMIT_FSIZE with SIGXFSZ ignored makes a write past the limit fail with EFBIG. The limits lie just below and at the
size of every file that undisturbed work leaves, so each file in turn is the one that does not fit. The command must end
with 0 or with code 2 and one line that says where, what and how to fix it; what it leaves must verify; and the same
command without a limit must come out as the undisturbed one, byte for byte.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

import torch  # noqa: E402
import yaml  # noqa: E402
from kill import stages  # noqa: E402
from kill.children import LEFT_OUT, TIMEOUT, differences, take_own_lock, tree  # noqa: E402

import harken.cli.main  # noqa: E402


def command(world: Path, kind: str, folder: Path) -> list[str]:
    """The command line of one kind of work."""
    if kind == "report":
        return ["report", f"{world}/done", "--output-dir", str(folder)]
    if kind == "evaluation":
        return ["eval", "--config", f"{world}/evaluation.yml", "--output-dir", str(folder)]
    return ["train", "--preset", f"{world}/{kind}.yml", "--output-dir", str(folder)]


def prepare(world: Path) -> None:
    """Write models, rows, configurations and a finished evaluation."""
    stages.make_world(world)
    for kind in ("sft", "reward", "ppo"):
        message = stages.run_config(world, kind).model_dump(mode="json", exclude={"output_dir"})
        (world / f"{kind}.yml").write_text(yaml.safe_dump(message))
    (world / "evaluation.yml").write_text(yaml.safe_dump(stages.evaluation_settings(world)))
    assert harken.cli.main.main(command(world, "evaluation", world / "done")) == 0


def child(words: list[str], limit: int | None = None) -> tuple[int, str]:
    """Run a command line in a fork, no file larger than `limit`: its exit code, and what it said."""
    reading, writing = os.pipe()
    if (number := os.fork()) == 0:
        signal.setitimer(signal.ITIMER_REAL, TIMEOUT)
        take_own_lock()
        ticks = iter(range(10**9))
        time.perf_counter = lambda: float(next(ticks))
        os.close(reading)
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        if limit is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        os._exit(harken.cli.main.main(words))
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        message = pipe.read().decode(errors="replace")
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]), message


def limits(folder: Path, steps: int) -> list[int]:
    """Sizes at which another file no longer fits, at most `steps` of them, the largest first."""
    sizes = {
        path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name not in LEFT_OUT
    }
    chosen = sorted({max(0, size - 1) for size in sizes} | {size // 2 for size in sizes} | {0}, reverse=True)
    stride = max(1, -(-len(chosen) // steps))
    return chosen[::stride]


def problem(code: int, message: str) -> str:
    """What is wrong with how a command without room ended; "" when nothing is."""
    last = message.strip().splitlines()[-1] if message.strip() else ""
    if "Traceback" in message or "internal error" in message:
        return f"not in one line: {message[-800:]}"
    if code == 0:
        return ""
    if code != 2:
        return f"exit code {code}: {message[-500:]}"
    if ": " not in last or not any(word in last for word in ("Make room", "make room", "Fix:", "Fix:")):
        return f"says neither where nor how to mend it: {last}"
    return ""


def under_limits(kind: str, steps: int, world: Path, room: Path) -> str:
    """What was seen, in a line. Raises AssertionError for a limit under which work did not end as it should."""
    folder = room / kind
    words = command(world, kind, folder)
    code, message = child(words)
    assert code == 0, message[-2000:]
    expected = tree(folder)
    refused, at = 0, limits(folder, steps)
    for limit in at:
        shutil.rmtree(folder, ignore_errors=True)
        code, message = child(words, limit)
        assert not (odd := problem(code, message)), f"{kind}, at most {limit} bytes a file: {odd}"
        refused += code != 0
        code, message = child(words)
        assert code == 0, f"{kind}, after at most {limit} bytes a file: {message[-1500:]}"
        found = tree(folder)
        odd_files = [n for n in differences(expected, found) if not n.startswith("checkpoints/")]
        assert not odd_files, f"{kind}, after at most {limit} bytes a file: {odd_files}"
        assert kind == "report" or child(["verify", str(folder)])[0] == 0
    return f"{kind}: limits {len(at)}, refused {refused}, identical {len(at)}"


def main() -> None:
    """Print a line for each kind of work."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kinds", nargs="*", default=["sft", "reward", "ppo", "evaluation", "report"])
    parser.add_argument("--steps", type=int, default=1000, help="limits at most [%(default)s]")
    given = parser.parse_args()
    os.environ["SOURCE_DATE_EPOCH"] = "0"
    torch.set_num_threads(1)
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as name:
        (world := Path(name) / "world").mkdir()
        if (maker := os.fork()) == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(1, 2)
            prepare(world)
            os._exit(0)
        assert os.waitpid(maker, 0)[1] == 0
        (room := Path(name) / "room").mkdir()
        for kind in given.kinds:
            print(under_limits(kind, given.steps, world, room), flush=True)


if __name__ == "__main__":
    main()
