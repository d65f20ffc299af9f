"""One malformed input and what the command line has to make of it."""

from __future__ import annotations

import contextlib
import io
import re
import signal
import time
import traceback
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from malformed.world import World

from harken.cli.main import main

SECONDS = 20
"""Longer than this is a hang."""
MENDED = re.compile(r"\. \S[^.]{3,}|\bexpected |\bshould be |\bgreater than |\bless than ")
"""A second sentence, or what would be right there."""


@dataclass(frozen=True)
class Case:
    """`make` spoils something in the folder it is given and returns the command line.

    `names` are what the complaint must hold: the file, the row, the key. Code 2 is a refusal: one line on stderr.
    Code 1 with `names`: the command was at work, and ends with such a line. With code 0, or 1 without `names`, the
    command does its work, and `shown` must stand in what it prints.
    """

    name: str
    make: Callable[[World, Path], list[str]]
    names: tuple[str, ...] = ()
    code: int = 2
    shown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """What came of a case; `error` is "" when all is well."""

    code: int | None
    out: str
    err: str
    seconds: float
    fault: str

    @property
    def kind(self) -> str:
        return self.fault.partition(":")[0]


class Hang(BaseException):
    """Raised in the main thread when time is up; no handler of the code under test takes it."""


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    def ring(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run(case: Case, world: World, folder: Path) -> Result:
    """Run one case in process, with a limit of time."""
    began = time.perf_counter()
    out, err = io.StringIO(), io.StringIO()
    code: int | None = None
    fault = ""
    words = case.make(world, folder)
    try:
        with limited(SECONDS), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(words)
    except Hang:
        fault = f"hang: over {SECONDS} s"
    except BaseException as error:  # noqa: BLE001  whatever escapes is what is looked for
        where = traceback.extract_tb(error.__traceback__)[-1]
        fault = f"traceback: {type(error).__name__}: {error} at {where.filename}:{where.lineno}"
    seconds = time.perf_counter() - began
    message = err.getvalue()
    return Result(
        code, out.getvalue(), message, seconds, fault or _fault(case, code, out.getvalue(), message)
    )


def _fault(case: Case, code: int | None, out: str, err: str) -> str:
    if "Traceback" in err + out:
        return f"traceback: {err[-300:]}"
    if code != case.code:
        return f"code: {code} instead of {case.code}: {(err + out)[-600:]}"
    if steering := sorted({c for c in out + err if c not in "\n\r\t" and unicodedata.category(c) == "Cc"}):
        return f"control: {steering!r} reached the terminal"
    if missing := [part for part in case.shown if part not in out + err]:
        return f"vague: {missing} is not in {(out + err)[-600:]}"
    if code == 0 or not case.names:
        return ""
    if case.shown:  # a diagnosis whose findings are errors ends with 2 as well
        return ""
    reported = [line for line in err.splitlines() if line.startswith("harken: ")]
    if len(reported) != 1 or not err.endswith(reported[0] + "\n"):
        return f"vague: not one last line but {err[-600:]!r}"
    line = reported[0].removeprefix("harken: ")
    if missing := [part for part in case.names if part not in line]:
        return f"vague: {missing} is not in {line!r}"
    return "" if MENDED.search(line) else f"vague: no mend in {line!r}"
