"""A limit of time on a call of user code.

    after `seconds`           `TimeIsUp` is raised in it, and once a second from then on: it may be caught there
    `LAST_RESORT` later       the process ends, when not even that has helped

In the main thread the alarm clock raises it: that interrupts Python, and what waits in a system call. Elsewhere, and
where there is no alarm clock (Windows), it is raised between two steps of the interpreter, so a call that waits outside
Python is over first. Nothing of this process can interrupt code that holds the interpreter's lock and never returns.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

LAST_RESORT = 30.0
"""Seconds after the limit."""
INTERRUPT_INTERVAL = 1.0
"""Seconds between two attempts to interrupt."""


class TimeIsUp(BaseException):
    """Raised in user code that takes too long. No Exception: a retry loop must not take it for a failed request."""


@contextmanager
def time_limit(seconds: float | None, what: str) -> Iterator[None]:
    """Raise TimeIsUp inside once `seconds` have passed; None: no limit. `what` is named if the process has to end."""
    if seconds is None:
        yield
        return
    over = threading.Event()
    by_clock = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    target = None if by_clock else threading.get_ident()
    watch = threading.Thread(target=_watch, args=(over, seconds, target, what), daemon=True)
    before = None

    def ring(*_: object) -> None:
        if not over.is_set():
            raise TimeIsUp

    watch.start()
    try:
        if by_clock:
            before = signal.signal(signal.SIGALRM, ring)
            signal.setitimer(signal.ITIMER_REAL, seconds, INTERRUPT_INTERVAL)
        yield
    finally:
        over.set()
        if by_clock:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        else:  # one that was raised a moment ago and has not arrived must not arrive later
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(target or 0), None)


def _watch(over: threading.Event, seconds: float, target: int | None, what: str) -> None:
    if over.wait(seconds):
        return
    for _ in range(int(LAST_RESORT / INTERRUPT_INTERVAL)):
        if target is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(target), ctypes.py_object(TimeIsUp))
        if over.wait(INTERRUPT_INTERVAL):
            return
    line = f"harken: {what}: its timeout_s of {seconds:g} passed, and it cannot be interrupted: it is outside Python. "
    line += (
        "The process ends; the same command goes on from the last checkpoint. Bound the call it waits in.\n"
    )
    os.write(2, line.encode())
    os._exit(1)
