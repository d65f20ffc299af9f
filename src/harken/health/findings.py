"""What the monitor says: findings, each with cause and mend, and the light of an update."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["note", "amber", "red"]
Status = Literal["green", "amber", "red"]

SEVERITY: dict[Level, int] = {"note": 0, "amber": 1, "red": 2}
LIGHTS: tuple[Status, ...] = ("green", "amber", "red")
DOTS: dict[Status, str] = {"green": "🟢", "amber": "🟡", "red": "🔴"}


@dataclass(frozen=True)
class Finding:
    """One thing that was seen. A note explains what looks ill and is not: it changes no light."""

    name: str
    level: Level
    what: str
    """What was seen, with its unit and the line it crossed."""
    cause: str
    fix: str

    def __str__(self) -> str:
        return f"{self.level} {self.name}: {self.what}. Likely cause: {self.cause}. Fix: {self.fix}"


@dataclass(frozen=True)
class Report:
    """All findings of one update."""

    step: int
    light: Status
    findings: tuple[Finding, ...]
    names: tuple[str, ...]
    """Every finding that this kind of training can have: the columns of `metrics`."""

    @classmethod
    def of(cls, step: int, findings: tuple[Finding, ...], names: tuple[str, ...]) -> Report:
        """The light is that of the worst finding."""
        worst = max((SEVERITY[f.level] for f in findings), default=0)
        return cls(step, LIGHTS[worst], findings, names)

    def metrics(self) -> dict[str, float]:
        """`health/light` (0 green, 1 amber, 2 red) and `health/<finding>` (0 absent or a note, 1 amber, 2 red)."""
        columns = {f"health/{name}": 0.0 for name in self.names}
        columns |= {f"health/{f.name}": float(SEVERITY[f.level]) for f in self.findings}
        return {"health/light": float(LIGHTS.index(self.light))} | columns

    def news(self, previous: Report | None) -> list[str]:
        """A line for each finding that appeared or worsened since `previous`, and for each that went."""
        before = {f.name: f for f in previous.findings} if previous else {}
        now = {f.name for f in self.findings}
        lines = [
            str(f)
            for f in self.findings
            if f.name not in before or SEVERITY[f.level] > SEVERITY[before[f.name].level]
        ]
        gone = [name for name, f in before.items() if name not in now and f.level != "note"]
        return lines + [f"cleared {name} at {self.step}" for name in gone]


def light_mark(light: Status, *, terminal: bool) -> str:
    """The light in front of a progress line: a coloured dot on a terminal, else the word."""
    return DOTS[light] if terminal else light
