"""What a check is, and what becomes of a check that cannot be made."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from harken.doctor.finding import CheckResult, Outcome, error, note
from harken.errors import UserError

Kind = Literal["sft", "reward", "ppo"]
ALL: tuple[Kind, ...] = ("sft", "reward", "ppo")

FAULTS = (UserError, ArithmeticError, LookupError, OSError, RuntimeError, ValueError)
"""What the real code raises on a model, data or settings it cannot work with. Each becomes a finding."""


@dataclass(frozen=True)
class Check:
    """One question that is asked of a stage."""

    name: str
    kinds: tuple[Kind, ...]
    what: str
    """What is looked at, in a few words."""
    why: str
    """Why it matters, in a sentence."""
    items: str
    """The properties (P) and requirements (S) behind it."""
    cost: str
    look: Callable[[Any], Outcome]


def check(
    kinds: tuple[Kind, ...], *, what: str, why: str, items: str, cost: str = "none"
) -> Callable[[Callable[[Any], Outcome]], Check]:
    """Make a check of a function, under the function's name."""

    def make(look: Callable[[Any], Outcome]) -> Check:
        return Check(look.__name__, kinds, what, why, items, cost, look)

    return make


class Examination:
    """The checks of one stage, made in order. A fault is told once, by the first check that meets it."""

    def __init__(self, stage: str, context: object) -> None:
        self.stage, self.context = stage, context
        self._told: list[tuple[Exception, str]] = []

    def make(self, check: Check) -> CheckResult:
        """The finding of one check. What the code under it says on stderr is no news here and is left out."""
        began = time.perf_counter()
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                seen = check.look(self.context)
        except FAULTS as fault:
            seen = self._failed(fault, check)
        seconds = time.perf_counter() - began
        return CheckResult(self.stage, check.name, seen.level, seen.measured, check.why, seen.fix, seconds)

    def _failed(self, fault: Exception, check: Check) -> Outcome:
        first = next((name for known, name in self._told if known is fault), None)
        if first is not None:
            return note(f"not examined: see {first}")
        self._told.append((fault, check.name))
        if isinstance(fault, UserError):
            where = f"{fault.where}: " if fault.where else ""
            return error(f"{where}{fault.what}", fault.fix)
        what = " ".join(str(fault).split()) or "no reason given"
        return error(f"{type(fault).__name__}: {what}", "training would end here as well: mend what it names")
