"""What a person sees while Harken works: lines and bars on stderr, plain lines where it is no terminal."""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager, suppress
from typing import Any, TextIO, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")

DELAY = 1.0
"""Seconds before a bar shows: work that is done by then needs none."""
HEARTBEAT = 30.0
"""Seconds between lines of progress in a log."""

NARROWEST = 60
"""Columns of a table in a terminal that has fewer."""

_CONTROL = re.compile(
    r"(?:\x1b\[|\x9b)[0-9;?]*[ -/]*[@-~]"  # colours, cursor movements
    r"|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)"  # titles, links, the clipboard: texts for the terminal itself
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"  # and what turns the order of letters round
)


_HIDDEN = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u2028-\u202e"
    r"\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
"""What has no width, or turns the order of letters round."""


def width(most: int) -> int:
    """Return the columns a table may take: those of the terminal (or COLUMNS), `most` at most."""
    return min(most, max(shutil.get_terminal_size((most, 24)).columns, NARROWEST))


def plain(text: str) -> str:
    """The text without anything that acts on a terminal. Line breaks and tabs stay."""
    return _CONTROL.sub("", text)


def visible(name: str) -> str:
    """Return a name in which every character that cannot be seen is written out, as \\u202e.

    For names that are compared or shown beside others (domains, titles, models): two that look alike must be alike.
    """
    return "".join(_written_out(letter) if _HIDDEN.match(letter) else letter for letter in name)


def _written_out(letter: str) -> str:
    return f"\\u{ord(letter):04x}" if ord(letter) < 0x10000 else f"\\U{ord(letter):08x}"


def say(text: str, file: Any = None) -> None:
    """Print to stderr (or `file`) without breaking a live bar. Control characters are left out, line breaks stay.

    A stream that is closed or full loses the line and ends nothing.
    """
    with suppress(OSError, ValueError):
        tqdm.write(plain(text), file=file or sys.stderr)


def show(text: str) -> None:
    """Print a result to stdout, as `say` does: it may hold what a user or a model wrote."""
    print(plain(text))


def is_terminal(stream: TextIO | None) -> bool:
    """Whether someone watches a stream. One that is closed has no one."""
    try:
        return stream is not None and stream.isatty()
    except (OSError, ValueError):
        return False


def progress(iterable: Iterable[Item], label: str, total: int | None = None) -> Iterator[Item]:
    """The items, with a bar and the time left on a terminal, and a line now and then in a log."""
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    with counter(label, total) as count:
        for item in iterable:
            yield item
            count.update(1)


@contextmanager
def counter(label: str, total: int | None) -> Iterator[Counter]:
    """`progress` for work that reports how many it has done: call `.update(n)` on what this gives."""
    count = Counter(label, total)
    try:
        yield count
    finally:
        count.close()


class Counter:
    """A count of things done, shown after `DELAY` and gone when it closes."""

    def __init__(self, label: str, total: int | None) -> None:
        self.clock = Clock(0, total)
        self._label = label
        self._bar = bar(label, total, leave=False, delay=DELAY)
        self._next_line = time.monotonic() + HEARTBEAT

    def update(self, n: int) -> None:
        """`n` more are done."""
        self.clock.done += n
        self._bar.update(n)
        if self._bar.disable and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + HEARTBEAT
            say(f"{self._label} {self.clock}")

    def close(self) -> None:
        """Take the bar away."""
        self._bar.close()


class Clock:
    """How far a piece of work is and how long the rest will take, as text: ``7/20 [00:12<00:22]``."""

    def __init__(self, done: int, total: int | None) -> None:
        self.done, self.total = done, total
        self._first, self._began = done, time.monotonic()

    def count(self) -> str:
        """``7/20``, padded so that lines align."""
        return str(self.done) if self.total is None else f"{self.done:>{len(str(self.total))}}/{self.total}"

    def __str__(self) -> str:
        elapsed = time.monotonic() - self._began
        fresh = self.done - self._first
        left = "?"
        if self.total is not None and fresh > 0:
            left = tqdm.format_interval(elapsed / fresh * (self.total - self.done))
        return f"{self.count()} [{tqdm.format_interval(elapsed)}<{left}]"


def bar(label: str, total: int | None, *, initial: int = 0, leave: bool, delay: float = 0) -> tqdm[Any]:
    """A bar on stderr as wide as the terminal; it does nothing where stderr is no terminal."""
    return tqdm(
        total=total,
        initial=initial,
        desc=label,
        leave=leave,
        delay=delay,
        file=sys.stderr,
        dynamic_ncols=True,
        disable=not is_terminal(sys.stderr),
    )
