"""docs/health.md says what the code does: the same findings, thresholds, causes and fixes."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from harken.health.limits import Limits
from harken.health.monitor import RULES
from harken.health.rule import Rule

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "health.md").read_text(encoding="utf-8")


def thresholds(rule: Rule) -> str:
    warning, unhealthy = rule.thresholds(Limits())
    return f"| `{rule.name}` | {', '.join(rule.kinds)} | {warning} | {unhealthy} |"


def advice(rule: Rule) -> str:
    return f"| `{rule.name}` | {rule.cause} | {rule.fix} |"


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.name)
def test_the_document_has_the_rule(rule: Rule) -> None:
    lines = DOCUMENT.splitlines()
    assert lines.count(thresholds(rule)) == 1, f"docs/health.md should say\n{thresholds(rule)}"
    assert lines.count(advice(rule)) == 1, f"docs/health.md should say\n{advice(rule)}"


def test_the_document_has_no_rule_more() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", DOCUMENT, re.MULTILINE)
    assert sorted(rows) == sorted([rule.name for rule in RULES] * 2)


def test_every_threshold_is_in_a_rules_words() -> None:
    """Whoever adds a limit says it where users read; `gradient_past` and the rest stand in the tables too."""
    words = " ".join(rule.warning + rule.unhealthy for rule in RULES)
    message = set(re.findall(r"{(\w+)(?::[^}]*)?}", words))
    assert {field.name for field in fields(Limits)} == message
