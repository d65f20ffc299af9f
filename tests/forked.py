"""Run pytest in forked children of one process that imported torch once: an import costs ten seconds, a fork none."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

PRELOADED = (
    "pytest",
    "torch",
    "transformers",
    "peft",
    "jaxtyping",
    "beartype",
    "hypothesis",
    "pandas",
    "scipy.stats",
)
"""What most tests import; nothing of Harken, so that a child imports the copy of it that it is given."""


@dataclass
class Job:
    """One run of pytest on a copy of the source."""

    tests: list[str]
    make_source: Callable[[Path], None]
    """Write the package `harken` into the folder it is given."""
    seconds: int
    code: int | None = None
    """pytest's exit code; None: out of time."""
    output: str = ""
    subject: Any = None
    _running: tuple[tempfile.TemporaryDirectory[str], IO[bytes], float] | None = field(
        default=None, repr=False
    )


def preload() -> None:
    """Import what the children share. No thread may be started here: a child would lack it."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    for name in PRELOADED:
        importlib.import_module(name)
    if found := [name for name in sys.modules if name.split(".")[0] == "harken"]:
        raise RuntimeError(f"the children would share {found[0]}")


def run_jobs(jobs: Iterable[Job], root: Path, at_once: int, done: Callable[[Job], None]) -> None:
    """Run every job, `at_once` at a time, and call `done` as each ends."""
    waiting, running = iter(jobs), dict[int, Job]()
    exhausted = False
    while running or not exhausted:
        while len(running) < at_once and not exhausted:
            job = next(waiting, None)
            if job is None:
                exhausted = True
            else:
                running[_start(job, root)] = job
        for child, job in list(running.items()):
            if _has_ended(child, job):
                del running[child]
                done(job)
        time.sleep(0.02)


def _start(job: Job, root: Path) -> int:
    folder = tempfile.TemporaryDirectory()
    source = Path(folder.name).resolve()
    job.make_source(source)
    output = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the child ends
    job._running = folder, output, time.monotonic() + job.seconds
    sys.stdout.flush()
    if child := os.fork():
        return child
    try:
        os.setsid()
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        code = _pytest(job.tests, source, root)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    except BaseException as error:  # noqa: BLE001 - a child must never go on as its parent
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
        os._exit(70)


def _pytest(tests: list[str], source: Path, root: Path) -> int:
    os.chdir(root)
    os.environ |= {"PYTHONPATH": str(source), "HYPOTHESIS_STORAGE_DIRECTORY": str(source / "hypothesis")}
    sys.path[:] = [str(source), *(p for p in sys.path if Path(p).resolve() != root / "tests")]
    for name, module in list(
        sys.modules.items()
    ):  # this program's own: a test that imports one gets a fresh one
        if Path(getattr(module, "__file__", None) or "/").parent == root / "tests":
            del sys.modules[name]
    import pytest

    options = ["-x", "-q", "-rfE", "--tb=no", "-p", "no:cacheprovider", "-p", "no:xdist"]
    code = int(pytest.main([*options, *(f"tests/{test}" for test in tests)]))
    harken = sys.modules.get("harken")
    if harken is not None and Path(harken.__file__ or "") != source / "harken" / "__init__.py":
        raise RuntimeError(f"the tests ran on {harken.__file__}, not on the copy in {source}")
    return code


def _has_ended(child: int, job: Job) -> bool:
    assert job._running is not None
    folder, output, deadline = job._running
    found, status = os.waitpid(child, os.WNOHANG)
    late = not found and time.monotonic() > deadline
    if not found and not late:
        return False
    with contextlib.suppress(ProcessLookupError):  # with what it started
        os.killpg(child, signal.SIGKILL)
    if late:
        os.waitpid(child, 0)
    else:
        job.code = os.waitstatus_to_exitcode(status)
    output.seek(0)
    job.output = output.read().decode(errors="replace")
    output.close()
    folder.cleanup()
    job._running = None
    return True
