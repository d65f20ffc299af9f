"""SIGTERM, SIGINT and SIGHUP ask a run to stop; it stops where nothing is lost.

a signal      →  a note                  the handler does nothing else
check()       →  Stopped                 at safe points: every forward of a model, between steps
settle()      →  Stopped                 when work is finished whose last safe point had passed
begun()       →  the step is finished    from the first change of weights on check() waits, at most GRACE
a second one  →  the process ends        the last checkpoint is good; a closed terminal's SIGHUP never counts
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
"""Seconds a step that has begun to change weights may go on after the signal."""


class Stopped(SystemExit):
    """A signal asked, and this is a safe point. Its code is 128 + the signal's number, as shells have it.

    `late`: a step was given up half done, and what it left in memory is of no use.
    """

    def __init__(self, number: int, *, late: bool = False) -> None:
        super().__init__(128 + number)
        self.late = late
        self.name = signal.Signals(number).name


class _State:
    """Of the process: signals are."""

    handle_signals = False
    requested: int | None = None
    requested_at = 0.0
    delivered = False
    """Whether Stopped was raised for it."""
    in_critical_section = False
    weights_changing = False
    """Weights of the step under way have begun to change. Kept where a step ended with an exception."""
    signalled = False
    """A signal has come: the next one does not wait for what this one unwinds or saves."""


@contextmanager
def handle_signals() -> Iterator[None]:
    """Inside, signals ask. Outside, and in any thread but the main one, they do what they did before.

    A signal that came after the last safe point is kept: `settle` raises Stopped for it, and so does the next
    `listening` before anything in it begins.
    """
    if _State.handle_signals or threading.current_thread() is not threading.main_thread():
        yield
        return
    raise_if_pending()
    before = {number: signal.signal(number, _record) for number in SIGNALS if not _ignored(number)}
    _State.handle_signals, _State.requested, _State.delivered, _State.in_critical_section = (
        True,
        None,
        False,
        False,
    )
    _State.signalled = False
    try:
        yield
    finally:
        _State.handle_signals = _State.in_critical_section = False
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def step() -> Iterator[None]:
    """A step of training: what `begun` in it ends with it."""
    _State.weights_changing = False
    try:
        yield
        _State.weights_changing = False
    finally:
        _State.in_critical_section = False


def mark_weights_changing() -> None:
    """Weights change from here on: a step that stopped now would be half done."""
    _State.in_critical_section = _State.handle_signals
    _State.weights_changing = True


def stopped_mid_step() -> bool:
    """Whether the latest step ended with an exception after weights had begun to change."""
    return _State.weights_changing


def raise_if_stopped() -> None:
    """Raise Stopped if a signal asked for it and this is a safe point, or has waited for one long enough."""
    if _State.requested is None or not _State.handle_signals:
        return
    late = time.monotonic() - _State.requested_at > GRACE
    if late or not _State.in_critical_section:
        _State.delivered = True
        raise Stopped(_State.requested, late=_State.in_critical_section)


def raise_if_pending() -> None:
    """Raise Stopped for a signal that no safe point has answered yet. Call it when finished work is marked as such."""
    if not _State.handle_signals and _State.requested is not None and not _State.delivered:
        _State.delivered = True
        raise Stopped(_State.requested)


def raise_on_terminate() -> None:
    """Let every signal end the process as Ctrl-C does, so that what is open is put away. For the command line."""
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            if not _ignored(number):
                signal.signal(number, _stop)


def _ignored(number: int) -> bool:
    """Whether `nohup` started the process: a run under it outlives its terminal."""
    return number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN


def _stop(number: int, frame: FrameType | None) -> None:
    if _State.signalled:
        if number == signal.SIGHUP:
            return
        os._exit(128 + number)
    _State.signalled = True
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise Stopped(number)


def _record(number: int, frame: FrameType | None) -> None:
    if number == signal.SIGHUP and _State.requested is not None:
        return  # the kernel and the shell both send one when a terminal closes
    if _State.requested not in (None, signal.SIGHUP):
        os._exit(128 + number)
    _State.requested, _State.requested_at = number, time.monotonic()
    # Also once `listening` is left: a second SIGHUP must not end the checkpoint that this one asks for.
    _State.signalled = True
    name = signal.Signals(number).name
    streams.write_now(
        f"\n{name}: stopping at the next safe point, with a checkpoint. Once more: at once, without.\n"
    )
