"""Output that may go away: a closed terminal, a pipe without a reader, a log on a full disk.

What a run writes to its folder is the record; what it prints is for whoever watches. So a write to stdout or stderr
never raises here: what cannot be written is dropped, and `lost` tells why. The streams are replaced below Python's
text layer, so warnings, logging, progress bars and the flush of the interpreter's exit go the same way.
"""

from __future__ import annotations

import io
import os
import select
import sys
from contextlib import suppress
from typing import TextIO

WRITE_TIMEOUT = 5.0
"""Seconds to wait for a reader of a non-blocking pipe before what was to be written is dropped."""


class _NonFailingFile(io.FileIO):
    """A file descriptor whose writes do not fail. `error` is the first that did."""

    error: OSError | None = None

    def write(self, data, /) -> int:  # type: ignore[no-untyped-def]
        size = memoryview(data).nbytes
        try:
            written = super().write(data)
            if written is None and select.select([], [self.fileno()], [], WRITE_TIMEOUT)[1]:
                written = super().write(data)
        except OSError as error:
            self.error = self.error or error
            return size
        return size if written is None else written


_raw: dict[str, _NonFailingFile] = {}


def protect() -> None:
    """Replace stdout and stderr by streams that outlast what reads them. For the command line, before anything prints.

    A descriptor that was closed at the start is opened on the null device: the next file that is opened would get its
    number otherwise, and the words of a C library with it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
    sys.stdout = _non_failing(sys.stdout, "stdout", 1)
    sys.stderr = _non_failing(sys.stderr, "stderr", 2)


def write_error(name: str) -> OSError | None:
    """Why something written to "stdout" or "stderr" was lost; None when nothing was, or nothing is protected."""
    if name in _raw:
        getattr(sys, name).flush()
        return _raw[name].error
    return None


def write_now(text: str) -> None:
    """Write to stderr past every buffer. For a signal handler: it may have interrupted a write."""
    with suppress(AttributeError, OSError, ValueError):  # none, gone, or no file
        os.write(sys.stderr.fileno(), text.encode())


def _non_failing(stream: TextIO | None, name: str, number: int) -> TextIO:
    if stream is not None and not isinstance(stream, io.TextIOWrapper):
        return stream  # someone else's: a notebook's, a test's
    raw = _raw[name] = _NonFailingFile(number, "w", closefd=False)
    if stream is not None:
        try:
            stream.flush()
        except OSError as error:
            raw.error = error
    encoding = "utf-8" if stream is None else stream.encoding
    # backslashreplace: a letter that a terminal's encoding lacks must not end what prints it.
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=encoding,
        errors="backslashreplace",
        line_buffering=name == "stderr" or raw.isatty(),
    )
