"""Handle SIGTERM, SIGINT and SIGHUP: a run stops at the next safe point, where nothing is lost.

a signal                    the handler only records it
raise_if_stopped()          raises Stopped at safe points: in every forward of a model and between steps
raise_if_pending()          raises Stopped once work is finished, for a signal after its last safe point
mark_weights_changing()     from then on raise_if_stopped() waits for the end of the step, at most GRACE
a second signal             ends the process; the last checkpoint is complete; a second SIGHUP is ignored
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from harken.run import streams

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE = 25.0
"""Seconds after the signal that a step may continue once it has begun to change weights."""


class Stopped(SystemExit):
    """Stop the run at a safe point after a signal. The exit code is 128 + the signal's number, as in shells.

    `mid_step`: a step was abandoned halfway, and the weights in memory must not be saved.
    """

    def __init__(self, signum: int, *, mid_step: bool = False) -> None:
        super().__init__(128 + signum)
        self.mid_step = mid_step
        self.name = signal.Signals(signum).name


class _State:
    """The signal state, which belongs to the process."""

    handling = False
    requested: int | None = None
    requested_at = 0.0
    delivered = False
    """Whether Stopped was raised for the requested signal."""
    in_critical_section = False
    weights_changing = False
    """The current step has begun to change weights. Stays True if the step ended with an exception."""
    signalled = False
    """A signal has arrived: a further one does not wait for cleanup or a checkpoint."""


@contextmanager
def handle_signals() -> Iterator[None]:
    """Record signals inside this context. Outside, and in other threads, the previous handlers stay in effect.

    A signal after the last safe point stays pending: `raise_if_pending` raises Stopped for it, and so does the next
    `handle_signals` on entry.
    """
    if _State.handling or threading.current_thread() is not threading.main_thread():
        yield
        return
    raise_if_pending()
    before = {signum: signal.signal(signum, _record_handler) for signum in SIGNALS if not _ignored(signum)}
    _State.handling, _State.requested, _State.delivered, _State.in_critical_section = (
        True,
        None,
        False,
        False,
    )
    _State.signalled = False
    try:
        yield
    finally:
        _State.handling = _State.in_critical_section = False
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextmanager
def step() -> Iterator[None]:
    """Delimit a training step. The effect of `mark_weights_changing` ends with the step."""
    _State.weights_changing = False
    try:
        yield
        _State.weights_changing = False
    finally:
        _State.in_critical_section = False


def mark_weights_changing() -> None:
    """Mark that the step changes weights from here on, so that it should not be interrupted."""
    _State.in_critical_section = _State.handling
    _State.weights_changing = True


def stopped_mid_step() -> bool:
    """Return whether the last step ended with an exception after it had begun to change weights."""
    return _State.weights_changing


def raise_if_stopped() -> None:
    """Raise Stopped after a signal, if this is a safe point or GRACE has passed."""
    if _State.requested is None or not _State.handling:
        return
    late = time.monotonic() - _State.requested_at > GRACE
    if late or not _State.in_critical_section:
        _State.delivered = True
        raise Stopped(_State.requested, mid_step=_State.in_critical_section)


def raise_if_pending() -> None:
    """Raise Stopped for a pending signal. Call it after finished work is marked as finished."""
    if not _State.handling and _State.requested is not None and not _State.delivered:
        _State.delivered = True
        raise Stopped(_State.requested)


def raise_on_terminate() -> None:
    """Let every signal end the process by an exception, as Ctrl-C does, so that cleanup runs. For the command line."""
    if threading.current_thread() is threading.main_thread():
        for signum in SIGNALS:
            if not _ignored(signum):
                signal.signal(signum, _raise_handler)


def _ignored(signum: int) -> bool:
    """Return whether `nohup` started the process, which then outlives its terminal."""
    return signum == signal.SIGHUP and signal.getsignal(signum) is signal.SIG_IGN


def _raise_handler(signum: int, frame: FrameType | None) -> None:
    if _State.signalled:
        if signum == signal.SIGHUP:
            return
        os._exit(128 + signum)
    _State.signalled = True
    if signum == signal.SIGINT:
        raise KeyboardInterrupt
    raise Stopped(signum)


def _record_handler(signum: int, frame: FrameType | None) -> None:
    if signum == signal.SIGHUP and _State.requested is not None:
        return  # when a terminal closes, both the kernel and the shell send one
    if _State.requested not in (None, signal.SIGHUP):
        os._exit(128 + signum)
    _State.requested, _State.requested_at = signum, time.monotonic()
    # This stays set after `handle_signals` exits: a second SIGHUP must not interrupt the checkpoint.
    _State.signalled = True
    name = signal.Signals(signum).name
    streams.write_now(
        f"\n{name}: stopping at the next safe point, with a checkpoint. Repeat to stop at once, without one.\n"
    )
