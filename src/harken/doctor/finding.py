"""Define the results of checks, and the diagnosis over all of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from harken.run.counted import counted
from harken.run.terminal import strip_control, styled

CheckLevel = Literal["ok", "note", "warning", "error"]

LEVELS: tuple[CheckLevel, ...] = ("ok", "note", "warning", "error")
EXIT_CODES: dict[CheckLevel, int] = {"ok": 0, "note": 0, "warning": 1, "error": 2}
COLOURS: dict[CheckLevel, str] = {"ok": "green", "note": "cyan", "warning": "yellow", "error": "red"}


class CheckOutcome(NamedTuple):
    """Outcome of a check: its level, the measured numbers with their units, and the fix ("" if there is none)."""

    level: CheckLevel
    measured: str
    fix: str = ""


def ok(measured: str) -> CheckOutcome:
    """Return an outcome of level ok: as expected."""
    return CheckOutcome("ok", measured)


def note(measured: str, fix: str = "") -> CheckOutcome:
    """Return an outcome of level note: information, nothing is wrong."""
    return CheckOutcome("note", measured, fix)


def warning(measured: str, fix: str) -> CheckOutcome:
    """Return an outcome of level warning: training runs, but probably not as intended."""
    return CheckOutcome("warning", measured, fix)


def error(measured: str, fix: str) -> CheckOutcome:
    """Return an outcome of level error: training fails or learns something else."""
    return CheckOutcome("error", measured, fix)


@dataclass(frozen=True)
class CheckResult:
    """The result of one check of one stage."""

    stage: str
    name: str
    level: CheckLevel
    measured: str
    why: str
    """Why it matters."""
    fix: str
    seconds: float


@dataclass(frozen=True)
class Diagnosis:
    """All results for one configuration."""

    config: str
    findings: tuple[CheckResult, ...]
    seconds: float

    @property
    def level(self) -> CheckLevel:
        """The worst level of any finding."""
        return max((f.level for f in self.findings), key=LEVELS.index, default="ok")

    @property
    def exit_code(self) -> int:
        """0: nothing worse than a note. 1: a warning. 2: an error."""
        return EXIT_CODES[self.level]

    def lines(self, *, colour: bool) -> list[str]:
        """Format one line per check, with the reason under a warning or error, and the fix under all but ok."""
        stage = max((len(f.stage) for f in self.findings), default=0)
        name = max((len(f.name) for f in self.findings), default=0)
        text = []
        for finding in self.findings:
            level = styled(f"{finding.level:<8}", COLOURS[finding.level], colour=colour)
            text.append(
                f"{level}{finding.stage:<{stage}}  {finding.name:<{name}}  {strip_control(finding.measured)}"
            )
            if finding.level in ("warning", "error"):
                text.append(f"{'':<8}{'':<{stage}}  why:   {finding.why}")
            if finding.fix and finding.level != "ok":
                text.append(f"{'':<8}{'':<{stage}}  fix:  {strip_control(finding.fix)}")
        return [*text, "", self.summary()]

    def summary(self) -> str:
        """``demo: 70 checks in 41 s: 0 errors, 0 warnings, 6 notes``."""
        counts = {level: sum(f.level == level for f in self.findings) for level in LEVELS}
        summary = ", ".join(counted(counts[level], level) for level in ("error", "warning", "note"))
        return f"{self.config}: {counted(len(self.findings), 'check')} in {self.seconds:.0f} s: {summary}"

    def to_dict(self) -> dict[str, Any]:
        """Return the diagnosis as JSON-ready data."""
        return {
            "config": self.config,
            "level": self.level,
            "exit_code": self.exit_code,
            "seconds": round(self.seconds, 2),
            "findings": [asdict(f) | {"seconds": round(f.seconds, 3)} for f in self.findings],
        }
