"""`data.criteria`: several criteria of an annotation become one preference by stated weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harken.config.base import DataConfig
from harken.config.files import validate_settings
from harken.data import sources
from harken.data_check import check_data
from harken.errors import UserError
from harken.records import Preference

PAIR = {"context": [{"role": "user", "content": "q"}], "response1": "one", "response2": "two"}
WEIGHTS = {"usefulness": 3.0, "clarity": 1.0}


def load(folder: Path, rows: list[dict[str, Any]], **settings: Any) -> tuple[list[Preference], Any]:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs, report = sources.load_preferences(DataConfig(path=str(path), **settings))
    return [pair for pair in pairs if isinstance(pair, Preference)], report


def annotated(*criteria: dict[str, float], **extra: Any) -> dict[str, Any]:
    entries = [{"rater": f"r{i}", "criteria": one} for i, one in enumerate(criteria)]
    return {**PAIR, "individual_preference": entries, **extra}


def test_the_weights_decide_which_response_is_better(tmp_path: Path):
    """S3-02: the first is more useful, the second clearer."""
    row = annotated({"usefulness": -1, "clarity": 2})
    (pair,), _ = load(tmp_path, [row], criteria=WEIGHTS)
    assert (pair.chosen, pair.strength, pair.raters) == ("one", 0.25, (0.25,))
    (pair,), _ = load(tmp_path, [row], criteria={"usefulness": 1.0, "clarity": 1.0})
    assert (pair.chosen, pair.strength) == ("two", 0.5)
    (pair,), _ = load(tmp_path, [row], criteria={"usefulness": 2.0, "clarity": 1.0})
    assert pair.label == 0.5


def test_several_annotations_are_several_raters(tmp_path: Path):
    """S3-02: each annotation is combined, then the raters; a score that the row has is replaced."""
    row = annotated({"usefulness": -3, "clarity": 1}, {"usefulness": 1, "clarity": 1}, overall_preference=3)
    row["individual_preference"][0]["score"] = 3
    (pair,), _ = load(tmp_path, [row], criteria=WEIGHTS)
    assert (pair.chosen, pair.strength) == ("one", 0.5)
    (pair,), report = load(tmp_path, [row], criteria=WEIGHTS, raters="majority")
    assert pair.raters == (2.0, -1.0) and pair.label == 0.5 and [v.name for v in pair.voters] == ["r0", "r1"]
    assert report.agreement is not None


def test_a_row_may_be_one_annotation_with_further_criteria(tmp_path: Path):
    (pair,), _ = load(
        tmp_path, [{**PAIR, "criteria": {"usefulness": 1, "clarity": 1, "tone": -9}}], criteria=WEIGHTS
    )
    assert (pair.chosen, pair.strength) == ("two", 1.0)


def test_listed_responses_are_ranked_by_their_criteria(tmp_path: Path):
    """S3-02: three responses with ratings as UltraFeedback writes them give three pairs; equal means tie."""
    ratings = {"a": ("4", "2"), "b": ("3", "5"), "c": ("1", "1")}
    listed = [
        {"response": name, "rank": 1, "annotations": {"usefulness": {"Rating": u}, "clarity": {"Rating": c}}}
        for name, (u, c) in ratings.items()
    ]
    pairs, _ = load(tmp_path, [{"instruction": "q", "completions": listed}], criteria=WEIGHTS)
    found = {(p.chosen, p.rejected): (p.label, p.strength) for p in pairs}
    assert found == {("a", "b"): (0.5, 0.0), ("a", "c"): (1.0, 2.5), ("b", "c"): (1.0, 2.5)}


def test_an_annotation_that_lacks_a_criterion_is_dropped_and_counted(tmp_path: Path):
    rows = [annotated({"usefulness": 1, "clarity": 1}), annotated({"usefulness": 1})]
    pairs, report = load(tmp_path, rows, criteria=WEIGHTS)
    assert len(pairs) == 1 and report.dropped == {"missing_field:criteria.clarity": 1}


def test_the_data_report_says_how_to_read_criteria(tmp_path: Path):
    rows = [annotated({"usefulness": 1, "clarity": 1})]
    with pytest.raises(UserError, match="unscored") as error:
        load(tmp_path, rows)
    assert "data.criteria" in str(error.value)
    assert (
        check_data(DataConfig(path=str(tmp_path / "rows.jsonl"), criteria=WEIGHTS))[0] == "read as preference"
    )


def test_weights_without_criteria_are_refused(tmp_path: Path):
    with pytest.raises(UserError, match="no row has criteria"):
        load(tmp_path, [{**PAIR, "overall_preference": 1}], criteria=WEIGHTS)
    with pytest.raises(UserError, match="no criterion has a weight above 0"):
        validate_settings(DataConfig, {"path": "x", "criteria": {"a": 0.0}}, "data")
