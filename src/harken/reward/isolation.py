"""Runs the user's own code: what it prints is shown, what it changes in the process is undone.

Not contained: `os._exit`, a crash of the interpreter, and changes to other modules. docs/rewards.md says what is.
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

MOST_LINES = 20
"""Of what one batch of calls prints; the rest is counted."""
LONGEST_LINE = 500
"""Characters of a line that are shown."""


class Isolation:
    """The surroundings of one file of user code.

    What the file sets while it is imported (a search path, an environment variable, a default dtype) holds for every
    call of its functions, and for nothing else. What a call sets is undone before the next one.
    """

    def __init__(self, name: str) -> None:
        self._output = _Output(name)
        self._own: dict[int, Any] = {}
        """What the import set."""
        self._before: list[Any] = []
        """The surroundings every call of a batch begins in."""
        self._interrupted = False

    @contextmanager
    def importing(self) -> Iterator[None]:
        """Run the file itself inside. Its random draws are the same every time."""
        with self._inside():
            process_state.seed_generators(0)
            before = process_state.read_state()
            yield
            self._own = process_state.changed(before, process_state.read_state())

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Make calls inside, each after `begin_call`."""
        with self._inside():
            now = process_state.read_state()
            self._before = [self._own.get(number, found) for number, found in enumerate(now)]
            yield

    def begin_call(self, seed: int) -> None:
        """Undo what the call before has changed. What a call draws depends on `seed` alone."""
        process_state.restore_state(self._before)
        process_state.seed_generators(seed)

    def is_request(self, error: BaseException) -> bool:
        """Whether the process was asked to stop, so that `error` is none of the code's own."""
        return isinstance(error, Stopped) or (isinstance(error, KeyboardInterrupt) and self._interrupted)

    @contextmanager
    def _inside(self) -> Iterator[None]:
        outer, drawn = process_state.read_state(), process_state.random_state()
        streams = sys.stdin, sys.stdout, sys.stderr
        threads = set(threading.enumerate())
        self._output.terminal = sys.stderr
        threading.excepthook = _thread_failed
        sys.stdin, sys.stdout, sys.stderr = io.StringIO(), self._output, self._output
        try:
            with self._noting_interrupts():
                yield
        finally:
            sys.stdin, sys.stdout, sys.stderr = streams
            process_state.restore_state(outer)
            process_state.put_random_state(drawn)
            self._output.end()
            _started.update(set(threading.enumerate()) - threads)
            if _started:
                threading.excepthook = _thread_failed

    @contextmanager
    def _noting_interrupts(self) -> Iterator[None]:
        """Tell a Ctrl-C from a KeyboardInterrupt that the code itself raised."""
        before = signal.getsignal(signal.SIGINT)
        if (
            threading.current_thread() is not threading.main_thread()
            or before is not signal.default_int_handler
        ):
            yield
            return

        def note(number: int, frame: Any) -> None:
            self._interrupted = True
            signal.default_int_handler(number, frame)

        signal.signal(signal.SIGINT, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


_started: set[threading.Thread] = set()
"""Threads that user code has started."""


def lingering_threads() -> list[threading.Thread]:
    """Threads of user code that would keep the process from ending."""
    return [thread for thread in _started if thread.is_alive() and not thread.daemon]


class _Output(io.TextIOBase):
    """A text stream whose lines are said with a prefix: no bar is torn, and whose they are can be seen."""

    encoding = "utf-8"

    def __init__(self, name: str) -> None:
        self._name, self._open, self._lines = name, "", 0
        self.terminal: Any = None
        """Where lines go: the standard error of before. What a log handler of the code keeps writes there later too."""

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str) -> int:
        """Say the lines that are complete, and keep the rest. Of a line that is written over, the last version."""
        *lines, self._open = (self._open + text).split("\n")
        for line in lines:
            self._say(line)
        self._open = self._open.rpartition("\r")[2][-LONGEST_LINE:]
        return len(text)

    def end(self) -> None:
        """The batch is over: say the last line, and how many were left out."""
        if self._open:
            self._say(self._open)
        if self._lines > MOST_LINES:
            say(f"{self._name} | … and {self._lines - MOST_LINES:,} more lines", self.terminal)
        self._open, self._lines = "", 0

    def _say(self, line: str) -> None:
        self._lines += 1
        if self._lines <= MOST_LINES:
            said = line.rstrip("\r").rpartition("\r")[2]
            shown = said if len(said) <= LONGEST_LINE else f"{said[:LONGEST_LINE]} …"
            say(f"{self._name} | {shown}", self.terminal)


def _thread_failed(told: threading.ExceptHookArgs) -> None:
    """One line for a thread that ended with an exception; in place of a traceback amid the run's own lines."""
    if told.exc_value is None:
        return
    last = traceback.extract_tb(told.exc_traceback)[-1:]
    where = f"{last[0].filename}:{last[0].lineno}" if last else "a thread"
    name = told.thread.name if told.thread else "?"
    say(f"warning: {where}: thread {name} failed ({describe_exception(told.exc_value)})")
