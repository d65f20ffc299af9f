"""Define a check, run it, and report the errors it meets."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harken.doctor.finding import CheckOutcome, CheckResult, error, note
from harken.errors import UserError
from harken.health.rule import TrainingType

ALL: tuple[TrainingType, ...] = ("sft", "reward", "classifier", "ppo", "dpo", "online_dpo")

REPORTED_ERRORS = (UserError, ArithmeticError, LookupError, OSError, RuntimeError, ValueError)
"""Errors that training code raises for a model, data or settings it cannot use. Each becomes a finding."""


@dataclass(frozen=True)
class Check:
    """Describe one check of a stage."""

    name: str
    kinds: tuple[TrainingType, ...]
    what: str
    """Measured quantity, in a few words."""
    why: str
    """Why it matters, in a sentence."""
    cost: str
    measure: Callable[[Any], CheckOutcome]


def check(
    kinds: tuple[TrainingType, ...], *, what: str, why: str, cost: str = "none"
) -> Callable[[Callable[[Any], CheckOutcome]], Check]:
    """Turn a function into a check with its name."""

    def make(measure: Callable[[Any], CheckOutcome]) -> Check:
        return Check(measure.__name__, kinds, what, why, cost, measure)

    return make


class StageChecks:
    """Run the checks of one stage in order. An error is reported once, by the first check that meets it."""

    def __init__(self, stage: str, context: object) -> None:
        self.stage, self.context = stage, context
        self._reported: list[tuple[Exception, str]] = []

    def run(self, check: Check) -> CheckResult:
        """Run one check and return its result. Output of the checked code on stderr is dropped."""
        start = time.perf_counter()
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                outcome = check.measure(self.context)
        except REPORTED_ERRORS as raised:
            outcome = self._failed(raised, check)
        seconds = time.perf_counter() - start
        return CheckResult(
            self.stage, check.name, outcome.level, outcome.measured, check.why, outcome.fix, seconds
        )

    def _failed(self, raised: Exception, check: Check) -> CheckOutcome:
        first = next((name for earlier, name in self._reported if earlier is raised), None)
        if first is not None:
            return note(f"not checked: see {first}")
        self._reported.append((raised, check.name))
        if isinstance(raised, UserError):
            where = f"{raised.where}: " if raised.where else ""
            return error(f"{where}{raised.what}", raised.fix)
        text = " ".join(str(raised).split()) or "no reason given"
        return error(f"{type(raised).__name__}: {text}", "training would fail here too: fix what it names")
