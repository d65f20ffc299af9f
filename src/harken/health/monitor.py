"""Check a run's health after every step by the metrics it has logged."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence

from harken.errors import UserError
from harken.health.findings import Finding, Report
from harken.health.history import History
from harken.health.kl_rules import KL_RULES
from harken.health.learning_rules import LEARNING_RULES
from harken.health.limits import Limits
from harken.health.preference_rules import PREFERENCE_RULES
from harken.health.response_rules import RESPONSE_RULES
from harken.health.reward_rules import REWARD_RULES
from harken.health.rule import Rule, TrainingType
from harken.health.supervised_rules import SUPERVISED_RULES

RULES: tuple[Rule, ...] = (
    *LEARNING_RULES,
    *KL_RULES,
    *REWARD_RULES,
    *RESPONSE_RULES,
    *SUPERVISED_RULES,
    *PREFERENCE_RULES,
)


class Monitor:
    """Check every line of metrics in order. The reports depend only on these lines and the limits."""

    def __init__(self, stop_on: Sequence[str], kind: TrainingType, limits: Limits | None = None) -> None:
        """Raise UserError when `stop_on` names a finding that no stage has."""
        names = [rule.name for rule in RULES]
        for name in stop_on:
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1)
                fix = f"write {near[0]}" if near else f"choose among {', '.join(names)}"
                raise UserError(f"there is no finding {name!r}", where="health.stop_on", fix=fix)
        self.stop_on, self.limits = tuple(stop_on), limits or Limits()
        self.rules = tuple(rule for rule in RULES if kind in rule.kinds)
        self.history = History()
        self.report = self._evaluate()

    def update(self, step: int, metrics: Mapping[str, float | None]) -> Report:
        """Check the run after `step` (from 1), given the metrics that are about to be logged."""
        self.history.add(step, metrics)
        self.report = self._evaluate()
        return self.report

    def replay(self, lines: Iterable[str]) -> Report:
        """Read the lines of metrics.jsonl of an interrupted run. Returns the last line's report."""
        for line in lines:
            metrics = json.loads(line)
            self.history.add(int(metrics.pop("step")), metrics)
        self.report = self._evaluate()
        return self.report

    def stop_reason(self) -> str | None:
        """Return why the run should end: the first finding of `stop_on` that is unhealthy; None to go on."""
        findings = (*self.report.findings, *self.report.covered)
        unhealthy = (f for f in findings if f.level == "unhealthy" and f.name in self.stop_on)
        return next((f"health: {f.name}: {f.what}" for f in unhealthy), None)

    def _evaluate(self) -> Report:
        findings: list[Finding] = []
        for rule in self.rules:
            if (finding := rule.finding(self.history, self.limits)) is not None:
                findings.append(finding)
        hidden = covered_names(finding.name for finding in findings)
        return Report.of(
            self.history.step,
            tuple(finding for finding in findings if finding.name not in hidden),
            tuple(rule.name for rule in self.rules),
            tuple(finding for finding in findings if finding.name in hidden),
        )


def covered_names(names: Iterable[str]) -> set[str]:
    """Return the findings that are not shown with those in `names`, because one of these has the same cause."""
    present = set(names)
    return {name for rule in RULES if rule.name in present for name in rule.covers}
