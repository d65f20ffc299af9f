"""Run the user's own code. Print its output with a prefix and restore process state afterwards.

Not covered: `os._exit`, crashes, changes to other modules (docs/rewards.md). This is not a security sandbox.
"""

from __future__ import annotations

import io
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from harken.errors import describe_exception
from harken.reward import process_state
from harken.run.signals import Stopped
from harken.run.terminal import say

MAX_PRINTED_LINES = 20
"""Number of lines that one batch of calls may print; the rest is counted."""
MAX_LINE_LENGTH = 500
"""Characters; a longer line is truncated."""


class Isolation:
    """Isolate the process from one file of user code.

    Settings that the file changes while it is imported (a search path, an environment variable, a default dtype) apply
    to every call of its functions and to nothing else. Settings that a call changes are restored before the next call.
    """

    def __init__(self, name: str) -> None:
        self._output = _Output(name)
        self._set_by_import: dict[int, Any] = {}
        """Settings that the import changed."""
        self._call_state: list[Any] = []
        """Process state at the start of every call of a batch."""
        self._interrupted = False

    @contextmanager
    def importing(self) -> Iterator[None]:
        """Enter to import the file. The global generators are seeded, so its random draws are always the same."""
        with self._isolated():
            process_state.seed_generators(0)
            state = process_state.read_state()
            yield
            self._set_by_import = process_state.changed_settings(state, process_state.read_state())

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Enter to call the file's functions, each after `begin_call`."""
        with self._isolated():
            state = process_state.read_state()
            self._call_state = [self._set_by_import.get(index, value) for index, value in enumerate(state)]
            yield

    def begin_call(self, seed: int) -> None:
        """Undo the changes of the previous call, and seed the global generators: draws depend on `seed` alone."""
        process_state.restore_state(self._call_state)
        process_state.seed_generators(seed)

    def is_stop_request(self, error: BaseException) -> bool:
        """Return whether `error` is a request to stop the process rather than an error of the code."""
        return isinstance(error, Stopped) or (isinstance(error, KeyboardInterrupt) and self._interrupted)

    @contextmanager
    def _isolated(self) -> Iterator[None]:
        outer, outer_random = process_state.read_state(), process_state.random_state()
        streams = sys.stdin, sys.stdout, sys.stderr
        threads = set(threading.enumerate())
        self._output.terminal = sys.stderr
        threading.excepthook = _report_thread_exception
        sys.stdin, sys.stdout, sys.stderr = io.StringIO(), self._output, self._output
        try:
            with self._record_interrupts():
                yield
        finally:
            sys.stdin, sys.stdout, sys.stderr = streams
            process_state.restore_state(outer)
            process_state.restore_random_state(outer_random)
            self._output.end()
            _started.update(set(threading.enumerate()) - threads)
            if _started:
                threading.excepthook = _report_thread_exception

    @contextmanager
    def _record_interrupts(self) -> Iterator[None]:
        """Record a Ctrl-C, to distinguish it from a KeyboardInterrupt that the code raises itself."""
        handler = signal.getsignal(signal.SIGINT)
        if (
            threading.current_thread() is not threading.main_thread()
            or handler is not signal.default_int_handler
        ):
            yield
            return

        def note(signum: int, frame: Any) -> None:
            self._interrupted = True
            signal.default_int_handler(signum, frame)

        signal.signal(signal.SIGINT, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, handler)


_started: set[threading.Thread] = set()
"""Threads that user code started."""


def running_user_threads() -> list[threading.Thread]:
    """Return the threads of user code that would keep the process from exiting."""
    return [thread for thread in _started if thread.is_alive() and not thread.daemon]


class _Output(io.TextIOBase):
    """Print each line with the file's name as a prefix, without breaking a progress bar."""

    encoding = "utf-8"

    def __init__(self, name: str) -> None:
        self._name, self._pending, self._lines = name, "", 0
        self.terminal: Any = None
        """The original stderr. A log handler that kept this stream also writes there later."""

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str) -> int:
        """Print complete lines and keep the rest. For a line overwritten by carriage returns, keep its last version."""
        *lines, self._pending = (self._pending + text).split("\n")
        for line in lines:
            self._say(line)
        self._pending = self._pending.rpartition("\r")[2][-MAX_LINE_LENGTH:]
        return len(text)

    def end(self) -> None:
        """End a batch: print the last line and the number of omitted lines."""
        if self._pending:
            self._say(self._pending)
        if self._lines > MAX_PRINTED_LINES:
            say(f"{self._name} | … and {self._lines - MAX_PRINTED_LINES:,} more lines", self.terminal)
        self._pending, self._lines = "", 0

    def _say(self, line: str) -> None:
        self._lines += 1
        if self._lines <= MAX_PRINTED_LINES:
            last = line.rstrip("\r").rpartition("\r")[2]
            shortened = last if len(last) <= MAX_LINE_LENGTH else f"{last[:MAX_LINE_LENGTH]} …"
            say(f"{self._name} | {shortened}", self.terminal)


def _report_thread_exception(failure: threading.ExceptHookArgs) -> None:
    """Print one line for a thread that raised an exception, in place of a traceback among the run's own lines."""
    if failure.exc_value is None:
        return
    last = traceback.extract_tb(failure.exc_traceback)[-1:]
    where = f"{last[0].filename}:{last[0].lineno}" if last else "a thread"
    name = failure.thread.name if failure.thread else "?"
    say(f"warning: {where}: thread {name} failed ({describe_exception(failure.exc_value)})")
