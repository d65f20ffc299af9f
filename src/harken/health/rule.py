"""What a rule of the monitor is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple

from harken.health.findings import Finding, Level
from harken.health.history import History
from harken.health.limits import Limits

Kind = Literal["sft", "reward", "ppo"]


class Observation(NamedTuple):
    """What a rule saw, with numbers and units."""

    level: Level
    what: str


@dataclass(frozen=True)
class Rule:
    """One finding: when it is raised, why it mostly happens, what helps.

    `amber` and `red` say the thresholds in words; `{name}` in them is a field of `Limits`.
    """

    name: str
    kinds: tuple[Kind, ...]
    amber: str
    red: str
    cause: str
    fix: str
    items: str
    """The requirements and properties that ask for it."""
    look: Callable[[History, Limits], Observation | None]

    def finding(self, history: History, limits: Limits) -> Finding | None:
        """What the rule says of the latest line, None when all is well."""
        seen = self.look(history, limits)
        return Finding(self.name, seen.level, seen.what, self.cause, self.fix) if seen else None

    def thresholds(self, limits: Limits) -> tuple[str, str]:
        """The amber and the red line in words."""
        values = asdict(limits)
        return self.amber.format(**values), self.red.format(**values)
