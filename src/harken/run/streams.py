"""Keep a run alive when its output fails: a closed terminal, a pipe without a reader, a log on a full disk.

The run folder has all results, so printed output is not essential: a write to stdout or stderr never raises here.
Output that cannot be written is dropped, and `write_error` returns why. The streams are replaced below Python's text
layer, so this includes warnings, logging, progress bars and the flush at interpreter exit.
"""

from __future__ import annotations

import io
import os
import select
import sys
from contextlib import suppress
from typing import TextIO

WRITE_TIMEOUT = 5.0
"""Seconds to wait for the reader of a non-blocking pipe before output is dropped."""


class _NonFailingFile(io.FileIO):
    """Write to a file descriptor without raising. `error` is the first error."""

    error: OSError | None = None

    def write(self, data, /) -> int:  # type: ignore[no-untyped-def]
        size = memoryview(data).nbytes
        try:
            count = super().write(data)
            if count is None and select.select([], [self.fileno()], [], WRITE_TIMEOUT)[1]:
                count = super().write(data)
        except OSError as error:
            self.error = self.error or error
            return size
        return size if count is None else count


_raw: dict[str, _NonFailingFile] = {}


def make_output_non_failing() -> None:
    """Replace stdout and stderr by streams whose writes do not fail. Call it on the command line before any output.

    Descriptors that were closed at the start are opened on the null device. Otherwise the next opened file would get
    such a number, and receive the output of C libraries.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != fd:
                os.dup2(null, fd)
                os.close(null)
    sys.stdout = _non_failing(sys.stdout, "stdout", 1)
    sys.stderr = _non_failing(sys.stderr, "stderr", 2)


def write_error(name: str) -> OSError | None:
    """Return the first write error of "stdout" or "stderr".

    None if there was none or `make_output_non_failing` was not called.
    """
    if name in _raw:
        getattr(sys, name).flush()
        return _raw[name].error
    return None


def write_now(text: str) -> None:
    """Write to stderr without buffers. For signal handlers, which may interrupt a buffered write."""
    with suppress(AttributeError, OSError, ValueError):  # stderr is missing, closed or not a file
        os.write(sys.stderr.fileno(), text.encode())


def _non_failing(stream: TextIO | None, name: str, fd: int) -> TextIO:
    if stream is not None and not isinstance(stream, io.TextIOWrapper):
        return stream  # replaced by a notebook or a test
    raw = _raw[name] = _NonFailingFile(fd, "w", closefd=False)
    if stream is not None:
        try:
            stream.flush()
        except OSError as error:
            raw.error = error
    encoding = "utf-8" if stream is None else stream.encoding
    # backslashreplace: a character that the encoding lacks must not raise.
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=encoding,
        errors="backslashreplace",
        line_buffering=name == "stderr" or raw.isatty(),
    )
