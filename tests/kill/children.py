"""Work in a forked child that may be killed, and what it leaves behind."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from kill.disk import watch
from tqdm import tqdm

TIMEOUT = 300.0
"""Seconds that a child may take. Only a hang should reach them, also on a busy machine."""
KILLED, NO_ROOM = -1, -2
LEFT_OUT = (".writer.lock", ".writer.json")


def run(
    work: Callable[[Path], object],
    folder: Path,
    *,
    kill_at: int | None = None,
    power: int | None = None,
    after: float | None = None,
    full_at: int | None = None,
    moments: list[str] | None = None,
) -> int:
    """Do `work(folder)` in a child: killed before disk operation `kill_at`, `after` seconds, or not at all.

    `moments` gets the kind of the operation before which it was killed; of a child that came to its end, of all.
    Returns the number of operations when it came to its end, KILLED when it was killed, and NO_ROOM when it gave up
    because the disk was full (from operation `full_at` on, for a while). Raises RuntimeError with the
    child's last words when it failed, and TimeoutError when it hung.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _work(work, folder, writer, kill_at, power, full_at)
    os.close(writer)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    message = b""
    with os.fdopen(reader, "rb") as pipe:
        message = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM:
        raise TimeoutError(f"still at work after {TIMEOUT:g} s")
    words = message.decode(errors="replace").splitlines()
    if os.WIFSIGNALED(status):
        if moments is not None:
            moments += words[:1]
        return KILLED
    if os.WEXITSTATUS(status) == errno.ENOSPC:
        return NO_ROOM
    if os.WEXITSTATUS(status):
        raise RuntimeError(message.decode(errors="replace"))
    if moments is not None:
        moments += words[1:]
    return int(words[0])


def _work(
    work: Callable[[Path], object],
    folder: Path,
    response: int,
    kill_at: int | None,
    power: int | None,
    full_at: int | None,
) -> None:
    signal.setitimer(signal.ITIMER_REAL, TIMEOUT)
    take_own_lock()
    log = os.open(folder.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    _count_seconds()
    disk = watch(
        folder, folder.with_suffix(".attic"), kill_at, power, full_at,
        tell=lambda moment: os.write(response, moment.encode()),
    )  # fmt: skip
    try:
        work(folder)
    except OSError as error:
        os.write(response, traceback.format_exc()[-2000:].encode())
        os._exit(errno.ENOSPC if error.errno == errno.ENOSPC else 1)
    except BaseException:  # noqa: BLE001  whatever ended the child is told to the parent
        os.write(response, traceback.format_exc()[-2000:].encode())
        os._exit(1)
    _write_all(response, "\n".join([str(disk.count), *disk.moments]).encode())
    os._exit(0)


def _write_all(pipe: int, message: bytes) -> None:
    while message:
        message = message[os.write(pipe, message) :]


def take_own_lock() -> None:
    """tqdm's lock is a semaphore that all forks share: a child killed while it holds it would stop the others."""
    tqdm.set_lock(threading.RLock())


def _count_seconds() -> None:
    """Measured seconds are the one thing that no two runs share: here every look at the clock takes one."""
    ticks = iter(range(10**9))
    time.perf_counter = lambda: float(next(ticks))


def tree(folder: Path) -> dict[str, str]:
    """The sha256 of every file, by path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in LEFT_OUT
    }


def differences(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    """Files that are missing, new or other."""
    names = sorted(expected.keys() | found.keys())
    return [name for name in names if expected.get(name) != found.get(name)]
