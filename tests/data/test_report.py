from __future__ import annotations

import json

import pytest

from harken.data.report import REASONS, DataReport, DroppedRow


def test_the_account_balances_and_names_the_first_place():
    """S0-16: raw, kept, dropped by reason."""
    report = DataReport("x.jsonl", "prompt")
    for _ in range(4):
        report.keep()
    report.drop("x.jsonl:5", "missing_field", "chosen")
    report.drop("x.jsonl:6", "missing_field", "chosen")
    report.drop_kept("some-id", "response_too_long")
    report.drop_kept("x.jsonl", "over_limit")
    assert (report.raw, report.kept) == (6, 2)
    assert report.dropped == {"missing_field:chosen": 2, "response_too_long": 1, "over_limit": 1}
    assert report.dropped_rows[0] == DroppedRow("x.jsonl:5", "chosen", "missing_field")
    assert len(report.dropped_rows) == 3
    head, *rest = report.lines()
    assert "6 rows, 2 kept, 4 dropped" in head
    assert any("2 dropped: missing_field:chosen" in line and "first x.jsonl:5" in line for line in rest)
    assert json.loads(json.dumps(report.to_dict()))["dropped"]["over_limit"] == 1


def test_reasons_are_a_closed_set():
    report = DataReport("x")
    with pytest.raises(ValueError, match="because"):
        report.drop("x:1", "because")
    assert report.raw == 0 and "identical_responses" in REASONS


def test_the_short_account_has_two_lines_and_every_warning():
    """G5: what a run prints names the three commonest reasons, and counts the rows of the others."""
    report = DataReport("x.jsonl", "prompt")
    for reason, count in (
        ("tie", 5),
        ("no_prompt", 4),
        ("no_newline", 3),
        ("unscored", 2),
        ("empty_response", 1),
    ):
        for row in range(count):
            report.drop(f"x.jsonl:{row}", reason)
    report.shortened["prompt"] = 7
    assert report.summary() == [
        "x.jsonl: 15 rows, 0 kept, 15 dropped (layout prompt)",
        "  dropped 5 tie, 4 no_prompt, 3 no_newline and 3 for 2 other reasons; shortened 7 prompt",
    ]
    report.warnings += ["leaks", "repeats"]
    assert report.summary()[2:] == ["  warning: leaks", "  warning: repeats"]
    clean = DataReport("y.jsonl")
    clean.keep()
    assert clean.summary() == ["y.jsonl: 1 row, 1 kept, 0 dropped"]
