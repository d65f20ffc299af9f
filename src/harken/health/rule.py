"""Rules of the health monitor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple

from harken.health.findings import Finding, Level
from harken.health.history import History
from harken.health.limits import Limits

TrainingType = Literal["sft", "reward", "classifier", "ppo", "dpo", "online_dpo"]


class Observation(NamedTuple):
    """Level and description of a problem, with numbers and units."""

    level: Level
    what: str


@dataclass(frozen=True)
class Rule:
    """Define one finding: its thresholds, likely cause and fix.

    `warning` and `unhealthy` describe the thresholds; `{name}` in them is a field of `Limits`.
    """

    name: str
    kinds: tuple[TrainingType, ...]
    metric: str | None
    """The metric whose chart shows the problem; None where it may be any."""
    warning: str
    unhealthy: str
    cause: str
    fix: str
    observe: Callable[[History, Limits], Observation | None]
    covers: tuple[str, ...] = ()
    """Findings with the same cause that are not shown beside this one."""

    def finding(self, history: History, limits: Limits) -> Finding | None:
        """Return the rule's finding for the latest line; None when there is none."""
        observation = self.observe(history, limits)
        return (
            Finding(self.name, observation.level, observation.what, self.cause, self.fix)
            if observation
            else None
        )

    def thresholds(self, limits: Limits) -> tuple[str, str]:
        """Describe the thresholds of warning and unhealthy."""
        values = asdict(limits)
        return self.warning.format(**values), self.unhealthy.format(**values)
