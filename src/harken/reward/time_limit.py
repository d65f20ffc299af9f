"""Limit the time of a call of user code.

    after `seconds`           `CallTimeout` is raised in it, and again every second, because user code may catch it
    `KILL_AFTER_S` later      the process ends if the call still runs

In the main thread a timer signal raises it, which interrupts Python and blocking system calls. In other threads, and
where there is no such timer (Windows), it is raised between two bytecode instructions, so a call that blocks outside
Python ends first. Code that holds the GIL and never returns cannot be interrupted from within the process.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

KILL_AFTER_S = 30.0
"""Seconds after the limit at which the process ends."""
INTERRUPT_INTERVAL = 1.0
"""Seconds between two attempts to interrupt."""


class CallTimeout(BaseException):
    """Report user code that takes too long.

    It is not an Exception, so that a retry loop does not take it for a failed request.
    """


@contextmanager
def time_limit(seconds: float | None, what: str) -> Iterator[None]:
    """Raise CallTimeout inside once `seconds` have passed; None sets no limit.

    `what` names the call if the process has to end.
    """
    if seconds is None:
        yield
        return
    done = threading.Event()
    by_signal = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    thread_id = None if by_signal else threading.get_ident()
    watch = threading.Thread(target=_interrupt_after, args=(done, seconds, thread_id, what), daemon=True)
    before = None

    def raise_timeout(*_: object) -> None:
        if not done.is_set():
            raise CallTimeout

    watch.start()
    try:
        if by_signal:
            before = signal.signal(signal.SIGALRM, raise_timeout)
            signal.setitimer(signal.ITIMER_REAL, seconds, INTERRUPT_INTERVAL)
        yield
    finally:
        done.set()
        if by_signal:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        else:  # cancel one that was raised but has not been delivered yet
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id or 0), None)


def _interrupt_after(done: threading.Event, seconds: float, thread_id: int | None, what: str) -> None:
    if done.wait(seconds):
        return
    for _ in range(int(KILL_AFTER_S / INTERRUPT_INTERVAL)):
        if thread_id is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread_id), ctypes.py_object(CallTimeout)
            )
        if done.wait(INTERRUPT_INTERVAL):
            return
    line = (
        f"harken: {what}: its timeout_s of {seconds:g} passed, and it cannot be interrupted outside Python. "
    )
    line += "The process ends; the same command resumes from the last checkpoint. "
    line += "Fix: set a timeout on the blocking call.\n"
    os.write(2, line.encode())
    os._exit(1)
