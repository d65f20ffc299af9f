"""Collect the recorded files that a page leaves out because they cannot be read. No torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from harken.errors import UserError

MAX_NAMED = 3
"""Files that a notice names with what is wrong; the others are counted."""

T = TypeVar("T")


class UnreadableFiles:
    """Read files of which each alone can be left out, and remember those that could not be read."""

    def __init__(self) -> None:
        self.problems: dict[str, str] = {}
        """Where → what is wrong, in the order of reading."""

    def read(self, read: Callable[[], T]) -> T | None:
        """Return what `read` returns; None where it raises UserError, which is remembered."""
        try:
            return read()
        except UserError as error:
            self.problems.setdefault(error.where, error.what)
            return None

    def notice(self) -> str:
        """Say in one sentence what was left out; "" where everything could be read."""
        if not self.problems:
            return ""
        named = [f"{where} ({what.rstrip('.')})" for where, what in list(self.problems.items())[:MAX_NAMED]]
        rest = len(self.problems) - len(named)
        named += [f"and {rest} more"] if rest else []
        return (
            f"Warning: left out because it could not be read: {', '.join(named)}. "
            "Fix: restore the files from a copy, then run harken report again."
        )
