"""One label scale for a whole file: found from all rows, or refused with the values and their counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harken.config.base import DataConfig
from harken.data import parse
from harken.errors import UserError
from harken.records import Preference

TRUTH = [("Blue.", "No."), ("Fire.", "H2O."), ("Mars.", "Cheese."), ("A fish.", "A robin.")]
"""Responses in the order of the file; the better ones are the first, second, first, second."""
BETTER = ["Blue.", "H2O.", "Mars.", "A robin."]


def read(
    folder: Path, column: str, labels: list[Any], sides: tuple[str, str], **data: Any
) -> list[Preference]:
    rows = [
        {"prompt": f"q{i}", sides[0]: first, sides[1]: second, column: label}
        for i, ((first, second), label) in enumerate(zip(TRUTH, labels, strict=True))
    ]
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found, _ = parse.parse_preference_rows(DataConfig(path=str(file), **data))
    assert all(isinstance(pair, Preference) for pair in found)
    return found  # type: ignore[return-value]


NUMBERED, LETTERED, ZERO = (
    ("response_1", "response_2"),
    ("response_a", "response_b"),
    ("response_0", "response_1"),
)


@pytest.mark.parametrize(
    ("column", "labels", "sides", "data"),
    [
        ("label", [0, 1, 0, 1], NUMBERED, {}),
        ("label", ["0", "1", "0", "1"], NUMBERED, {}),
        ("label", [0.0, 1.0, 0.0, 1.0], NUMBERED, {}),
        ("label", [1, 2, 1, 2], NUMBERED, {}),
        ("preference", [-3, 1, -1, 2], NUMBERED, {}),
        ("preference", [-1, 1, -1, 1], LETTERED, {}),
        ("preference_strength", [-3, 1, -1, 2], NUMBERED, {}),
        ("better_response_id", [0, 1, 0, 1], ZERO, {}),
        ("label", [1, 0, 1, 0], LETTERED, {}),  # the probability that the first is better
        ("label", [0.9, 0.2, 0.8, 0.4], LETTERED, {}),
        ("winner", ["model_a", "model_b", "model_a", "model_b"], LETTERED, {}),
        ("winner", ["A", "b", "[[A]]", "response_b"], LETTERED, {}),
        ("label", ["response_1", "response_2", "first", "second"], NUMBERED, {}),
        ("label", [1, 0, 1, 0], NUMBERED, {"label_scale": "one_first"}),
        ("label", [0, 1, 0, 1], LETTERED, {"label_scale": "zero_first"}),
        ("label", [2, -1, 1, -3], NUMBERED, {"label_scale": "positive_first"}),
        ("label", [1, 5, 2, 4], NUMBERED, {"label_scale": "low_first"}),
        ("label", [7, 1, 5, 2], NUMBERED, {"label_scale": "high_first"}),
    ],
)
def test_every_scale_chooses_the_better_response(
    tmp_path: Path, column: str, labels: list[Any], sides: tuple[str, str], data: dict[str, Any]
) -> None:
    assert [pair.chosen for pair in read(tmp_path, column, labels, sides, **data)] == BETTER


@pytest.mark.parametrize(
    ("labels", "sides"),
    [
        ([1, 1, 1, 1], NUMBERED),  # the first of 1 and 2, or the second of 0 and 1
        ([0, 0, 0, 0], NUMBERED),
        ([1, 5, 2, 4], NUMBERED),
        ([1, 7, 4, 2], LETTERED),
        ([1, 2, 3, 1], NUMBERED),
        ([0.2, 0.9, 0.1, 0.8], NUMBERED),
        ([True, False, True, False], NUMBERED),
        (["good", "bad", "good", "bad"], NUMBERED),
        ([1, 2, 1, 2], LETTERED),
    ],
)
def test_labels_of_no_or_several_scales_are_refused_with_counts(
    tmp_path: Path, labels: list[Any], sides: tuple[str, str]
) -> None:
    """Neither a guess nor a drop of the rows that do not fit."""
    with pytest.raises(UserError) as caught:
        read(tmp_path, "label", labels, sides)
    message = str(caught.value)
    assert "the labels of label cannot be read" in message
    count = labels.count(labels[0])
    shown = repr(str(labels[0]).lower()) if isinstance(labels[0], bool | str) else f"{labels[0]:g}"
    assert f"{shown} ({count})" in message
    assert "label_scale" in message


def test_a_scale_that_is_named_must_fit(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="zero_first has no 2"):
        read(tmp_path, "label", [1, 2, 1, 2], NUMBERED, label_scale="zero_first")


def test_strengths_and_ties_come_from_the_scale(tmp_path: Path) -> None:
    """S2-06: 0 is a tie, the size of a signed label is its strength, the middle of a scale is a tie."""
    found = read(tmp_path, "preference", [-3, 0, -1, 2], NUMBERED)
    assert [(pair.strength, pair.label) for pair in found] == [(3.0, 1.0), (0.0, 0.5), (1.0, 1.0), (2.0, 1.0)]
    found = read(tmp_path, "label", [1, 3, 2, 5], NUMBERED, label_scale="low_first")
    assert [(pair.chosen, pair.label) for pair in found] == [
        ("Blue.", 1.0), ("Fire.", 0.5), ("Mars.", 1.0), ("A robin.", 1.0),
    ]  # fmt: skip
    found = read(tmp_path, "winner", ["model_a", "tie (bothbad)", "model_a", "tie"], LETTERED)
    assert [pair.label for pair in found] == [1.0, 0.5, 1.0, 0.5]


def test_the_report_names_the_scale_of_labels(tmp_path: Path) -> None:
    read(tmp_path, "label", [0, 1, 0, 1], NUMBERED)
    _, report = parse.parse_preference_rows(DataConfig(path=str(tmp_path / "rows.jsonl")))
    assert "  label is read as zero_first: 0 means response_1 is better, 1 response_2" in report.lines()
    assert report.to_dict()["notes"]
