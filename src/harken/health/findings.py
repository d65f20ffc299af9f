"""Findings of the health monitor, each with cause and fix, and the status of a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["note", "warning", "unhealthy"]
Status = Literal["healthy", "warning", "unhealthy"]

SEVERITY: dict[Level, int] = {"note": 0, "warning": 1, "unhealthy": 2}
STATUSES: tuple[Status, ...] = ("healthy", "warning", "unhealthy")
DOTS: dict[Status, str] = {"healthy": "🟢", "warning": "🟡", "unhealthy": "🔴"}


@dataclass(frozen=True)
class Finding:
    """A detected problem. A note explains what can be mistaken for a problem: it does not change the status."""

    name: str
    level: Level
    what: str
    """The measurement, with its unit and the threshold it crossed."""
    cause: str
    fix: str

    def __str__(self) -> str:
        return f"{self.level} {self.name}: {self.what}. Likely cause: {self.cause}. Fix: {self.fix}"


@dataclass(frozen=True)
class Report:
    """The findings of one step."""

    step: int
    status: Status
    findings: tuple[Finding, ...]
    names: tuple[str, ...]
    """Every finding that this kind of training can have: the columns of `metrics`."""
    covered: tuple[Finding, ...] = ()
    """Findings that hold too and are not shown, because one of `findings` has the same cause."""

    @classmethod
    def of(
        cls,
        step: int,
        findings: tuple[Finding, ...],
        names: tuple[str, ...],
        covered: tuple[Finding, ...] = (),
    ) -> Report:
        """Make the report of a step; its status is that of the worst finding."""
        worst = max((SEVERITY[f.level] for f in (*findings, *covered)), default=0)
        return cls(step, STATUSES[worst], findings, names, covered)

    def metrics(self) -> dict[str, float]:
        """Return `health/status` and `health/<finding>`: 0 healthy (or a note), 1 warning, 2 unhealthy."""
        columns = {f"health/{name}": 0.0 for name in self.names}
        columns |= {f"health/{f.name}": float(SEVERITY[f.level]) for f in (*self.findings, *self.covered)}
        return {"health/status": float(STATUSES.index(self.status))} | columns

    def changes(self, previous: Report | None) -> list[str]:
        """Return a line for each finding that appeared or worsened since `previous`, and for each that cleared."""
        previous_findings = {f.name: f for f in previous.findings} if previous else {}
        names = {f.name for f in (*self.findings, *self.covered)}
        lines = [
            str(f)
            for f in self.findings
            if f.name not in previous_findings
            or SEVERITY[f.level] > SEVERITY[previous_findings[f.name].level]
        ]
        cleared = [name for name, f in previous_findings.items() if name not in names and f.level != "note"]
        return lines + [f"cleared {name} at {self.step}" for name in cleared]


def status_mark(status: Status, *, terminal: bool) -> str:
    """Format the status for a progress line: a green, yellow or red dot on a terminal, else the word."""
    return DOTS[status] if terminal else status
