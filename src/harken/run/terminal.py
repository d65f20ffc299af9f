"""Print to a terminal or a log: clean text, tables and colours (rich), bars and lines of progress (tqdm).

The bars use tqdm because datasets, transformers and the hub use it too, and `tqdm.write` keeps lines above
all of them. rich's live display hides the cursor, and a kill would leave it hidden.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import sys
import time
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager, suppress
from typing import Any, TextIO, TypeVar

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text
from tqdm import tqdm

T = TypeVar("T")

DELAY = 1.0
"""Seconds before a progress bar appears. Faster work shows none."""
HEARTBEAT = 30.0
"""Seconds between lines of progress in a log."""

MIN_WIDTH = 60
"""Minimum width of a table, also in a narrower terminal."""

_CONTROL = re.compile(
    r"(?:\x1b\[|\x9b)[0-9;?]*[ -/]*[@-~]"  # colours, cursor movements
    r"|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)"  # titles, links, the clipboard: texts for the terminal itself
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"  # and characters that reverse the order of letters
)
_INVISIBLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u2028-\u202e"
    r"\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
"""Characters without a width, and those that reverse the order of letters."""
_TRAILING = re.compile(r"(?:\s|\x1b\[[\d;]*m)+$")


def strip_control(text: str) -> str:
    """Remove control sequences of a terminal. Line breaks and tabs are kept."""
    return _CONTROL.sub("", text)


def escape_invisible(text: str, *, whitespace: bool = False) -> str:
    """Escape invisible characters, as \\u202e; with `whitespace` also every space except U+0020.

    For names that readers compare (domains, titles, models): names that appear equal must be equal.
    """

    def escaped(letter: str) -> str:
        hidden = _INVISIBLE.match(letter) or (
            whitespace and letter != " " and unicodedata.category(letter)[0] in "CZ"
        )
        return letter.encode("unicode_escape").decode() if hidden else letter

    return "".join(map(escaped, text))


def shorten(text: str, width: int) -> str:
    """Return text of at most `width` columns; an ellipsis replaces the rest."""
    shortened = Text(text)
    shortened.truncate(width, overflow="ellipsis")
    return shortened.plain


def columns() -> int:
    """Return the width of the terminal (or COLUMNS), `MIN_WIDTH` at least; 80 if stdout is not a terminal."""
    return max(shutil.get_terminal_size((80, 24)).columns, MIN_WIDTH)


def has_colour() -> bool:
    """Return whether to colour results: stdout is a terminal, and NO_COLOR is not set."""
    if not is_terminal(sys.stdout) or os.environ.get("NO_COLOR"):
        return False
    return Console(file=sys.stdout).color_system is not None


def styled(text: str, style: str, *, colour: bool) -> str:
    """Return one line of text in a style of rich (``"red"``, ``"dim"``), or unchanged without `colour`."""
    body = text.rstrip(" ")  # the renderer drops spaces at the end of a line
    return _render(Text(body, style), max(cell_len(body), 1), colour=colour) + text[len(body) :]


def format_table(
    cells: Mapping[str, Sequence[str] | Sequence[Text]],
    *,
    right: Collection[str] = (),
    width: int | None = None,
    wrap: bool = False,
    repeat: int = 1,
    longest: int | None = None,
    header: bool = True,
    gap: int = 2,
    colour: bool = False,
) -> str:
    """Return a table without borders: title → cells. Titles in `right` align right. Invisible characters are escaped.

    With a `width`, the last column wraps if `wrap`; otherwise columns that do not fit wrap into further blocks that
    repeat the first `repeat` columns. `longest`: maximum cell width.
    """
    clean = {
        title: [cell if isinstance(cell, Text) else Text(escape_invisible(cell)) for cell in column]
        for title, column in cells.items()
    }
    widths = {
        title: max(cell_len(title) if header else 0, *(cell.cell_len for cell in column), 1)
        for title, column in clean.items()
    }
    if longest is not None:
        widths = {title: min(size, longest) for title, size in widths.items()}
    titles = list(clean)
    blocks = [titles] if width is None or wrap else _split(titles, widths, repeat, gap, width)
    texts = []
    for block in blocks:
        table = Table(
            box=None, pad_edge=False, padding=(0, gap, 0, 0), show_header=header, header_style="bold"
        )
        for title in block:
            folds = wrap and title == titles[-1]
            table.add_column(
                Text(escape_invisible(title)),
                justify="right" if title in right else "left",
                no_wrap=not folds,
                overflow="fold" if folds else "ellipsis",
                max_width=longest,
            )
        for row in zip(*(clean[title] for title in block), strict=True):
            table.add_row(*row)
        natural = sum(widths[title] for title in block) + gap * (len(block) - 1)
        texts.append(_render(table, min(natural, width) if width and wrap else natural, colour=colour))
    return "\n\n".join(texts)


def _split(
    titles: Sequence[str], widths: Mapping[str, int], repeat: int, gap: int, width: int
) -> list[list[str]]:
    """Split titles into blocks of columns that fit next to the first `repeat` columns, at least one per block."""
    first = list(titles[:repeat])
    blocks, block = [], first
    for title in titles[repeat:]:
        size = sum(widths[name] + gap for name in [*block, title]) - gap
        if size > width and len(block) > repeat:
            blocks.append(block)
            block = first
        block = [*block, title]
    return [*blocks, block]


def _render(renderable: Any, width: int, *, colour: bool) -> str:
    """Render with rich, without spaces at the ends of lines."""
    out = io.StringIO()
    console = Console(
        file=out,
        width=width,
        force_terminal=colour,
        color_system="standard" if colour else None,
        no_color=not colour,
        markup=False,
        emoji=False,
        highlight=False,
        legacy_windows=False,
    )
    console.print(renderable)
    return "\n".join(
        _TRAILING.sub(lambda end: re.sub(r"\s", "", end[0]), line) for line in out.getvalue().splitlines()
    )


def say(text: str, file: Any = None) -> None:
    """Print to stderr (or `file`) above a live progress bar. Control characters are removed, line breaks are kept.

    If the stream is closed or full, the line is dropped.
    """
    with suppress(OSError, ValueError):
        tqdm.write(strip_control(text), file=file or sys.stderr)


def show(text: str) -> None:
    """Print a result to stdout without control characters: it may contain text from users or models."""
    print(strip_control(text))


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether a stream is a terminal. A closed stream is not."""
    try:
        return stream is not None and stream.isatty()
    except (OSError, ValueError):
        return False


def progress(iterable: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Yield the items with a progress bar on a terminal, or a line every `HEARTBEAT` seconds in a log."""
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    with counter(label, total) as count:
        for item in iterable:
            yield item
            count.update(1)


@contextmanager
def counter(label: str, total: int | None) -> Iterator[Counter]:
    """Show progress of work that reports its own count: call `.update(n)` on the yielded counter."""
    count = Counter(label, total)
    try:
        yield count
    finally:
        count.close()


class Counter:
    """Count finished items. The bar appears after `DELAY` seconds and disappears on close."""

    def __init__(self, label: str, total: int | None) -> None:
        self.clock = Clock(0, total)
        self._label = label
        self._bar = bar(label, total, leave=False, delay=DELAY)
        self._next_line = time.monotonic() + HEARTBEAT

    def update(self, n: int) -> None:
        """Add `n` finished items."""
        self.clock.done += n
        self._bar.update(n)
        if self._bar.disable and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + HEARTBEAT
            say(f"{self._label} {self.clock}")

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()


class Clock:
    """Format progress and remaining time: ``7/20 [00:12<00:22]``."""

    def __init__(self, done: int, total: int | None) -> None:
        self.done, self.total = done, total
        self._first, self._began = done, time.monotonic()

    def count(self) -> str:
        """Return ``7/20``, padded so that lines align."""
        return str(self.done) if self.total is None else f"{self.done:>{len(str(self.total))}}/{self.total}"

    def __str__(self) -> str:
        elapsed = time.monotonic() - self._began
        fresh = self.done - self._first
        remaining = "?"
        if self.total is not None and fresh > 0:
            remaining = tqdm.format_interval(elapsed / fresh * (self.total - self.done))
        return f"{self.count()} [{tqdm.format_interval(elapsed)}<{remaining}]"


def bar(label: str, total: int | None, *, initial: int = 0, leave: bool, delay: float = 0) -> tqdm[Any]:
    """Create a progress bar on stderr as wide as the terminal; disabled if stderr is not a terminal."""
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
