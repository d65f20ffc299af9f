"""Labels of several raters are read in four layouts, and what cannot be read is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harken.data.raters.rated_rows import RatedRows, RaterColumns, read_rated_rows
from harken.errors import UserError

TEXTS = {"instruction": "q", "response1": "a long answer", "response2": "short"}


def written(folder: Path, rows: list[Any]) -> str:
    path = folder / "labels.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def values(rated: RatedRows) -> list[dict[str, float]]:
    return [{vote.rater: vote.value for vote in row.votes} for row in rated.rows]


COLUMNS = [{**TEXTS, "annotator1": 1, "annotator2": 0, "annotator10": 2}, {**TEXTS, "annotator1": 2}]
NAMED = [{**TEXTS, "individual_preference": [{"score": -2, "rater": "b"}, {"score": 1, "rater": "a"}]}]
UNNAMED = [{**TEXTS, "individual_preference": [{"score": -2}, {"score": 0}, {"score": None}]}]
LONG = [
    {"item": "x", "worker": "w1", "label": "response1", **TEXTS},
    {"item": "y", "worker": "w1", "label": "tie", **TEXTS},
    {"item": "x", "worker": "w2", "label": "second", **TEXTS},
]


def test_columns_of_raters_are_comparisons_where_there_are_two_responses(tmp_path: Path):
    found = read_rated_rows(written(tmp_path, COLUMNS))
    assert (found.layout, found.kind, found.named) == ("columns", "comparisons", True)
    assert found.raters == ["annotator1", "annotator2", "annotator10"]
    assert values(found) == [{"annotator1": -1, "annotator2": 0, "annotator10": 1}, {"annotator1": 1}]
    assert [row.first_longer for row in found.rows] == [True, True]


def test_individual_preferences_keep_their_scale_and_names(tmp_path: Path):
    found = read_rated_rows(written(tmp_path, NAMED))
    assert values(found) == [{"a": 1, "b": -2}] and found.named and found.verdict(-2) == -1
    found = read_rated_rows(written(tmp_path, UNNAMED))
    assert not found.named and found.raters == [] and len(found.rows[0].votes) == 2


def test_lists_of_ratings_are_scores(tmp_path: Path):
    rows = [{"text": "t", "ratings": [3, 2, -1]}, {"text": "u", "ratings": []}]
    found = read_rated_rows(written(tmp_path, rows))
    assert (found.kind, found.named, len(found.rows)) == ("scores", False, 1)
    assert found.dropped == {"unscored": 1} and found.verdict(3) == 3


def test_one_row_per_vote_is_grouped_by_item(tmp_path: Path):
    found = read_rated_rows(written(tmp_path, LONG))
    assert (found.layout, found.kind) == ("long", "comparisons")
    assert values(found) == [{"w1": -1, "w2": 1}, {"w1": 0}]


def test_a_later_vote_of_a_rater_replaces_an_earlier_one(tmp_path: Path):
    rows = [
        {"item": "x", "worker": "w", "label": 5, "timestamp": "2026-01-02T10:00:00"},
        {"item": "x", "worker": "w", "label": 1, "timestamp": "2026-01-01T10:00:00"},
    ]
    assert values(read_rated_rows(written(tmp_path, rows))) == [{"w": 5}]


def test_words_are_labels_and_columns_may_be_named(tmp_path: Path):
    rows = [
        {"text": "t", "anna": "Spam", "ben": "ham "},
        {"text": "u", "anna": "ham", "ben": None, "gold": "HAM"},
    ]
    found = read_rated_rows(written(tmp_path, rows), RaterColumns(raters=("anna", "ben")))
    assert (found.kind, found.labels) == ("labels", ["ham", "spam"])
    assert values(found) == [{"anna": 1, "ben": 0}, {"anna": 0}] and found.rows[1].gold == 0


def test_a_label_that_names_no_side_is_counted(tmp_path: Path):
    rows = [{**TEXTS, "annotator1": "response1", "annotator2": "maybe"}]
    found = read_rated_rows(written(tmp_path, rows))
    assert found.dropped == {"unknown_label": 1} and values(found) == [{"annotator1": -1}]


def test_pandalm_and_vader_are_read(harken_data: Path):
    pandalm = read_rated_rows(str(harken_data / "multi_annotator/pandalm_testset_v1.jsonl.gz"))
    assert (len(pandalm.rows), len(pandalm.raters), pandalm.kind) == (999, 3, "comparisons")
    assert not pandalm.dropped and all(len(row.votes) == 3 for row in pandalm.rows)
    vader = read_rated_rows(str(harken_data / "multi_annotator/vader_movie_snippet_ratings.jsonl.gz"))
    assert (len(vader.rows), vader.kind, vader.named) == (10_605, "scores", False)
    assert min(len(row.votes) for row in vader.rows) == 15


@pytest.mark.parametrize(
    ("rows", "columns", "problem"),
    [
        ([{"prompt": "p"}], RaterColumns(), "no labels of several raters; the first has the columns: prompt"),
        ([{"anna": 1}], RaterColumns(raters=("bob",)), "no row has a column 'bob'"),
        ([{"ratings": []}], RaterColumns(), "no row has a label"),
        (
            [{"individual_preference": [{"score": "x"}]}],
            RaterColumns(),
            "no label can be read, for example 'x'",
        ),
        ([{"ratings": list(range(102))}], RaterColumns(), "102 different values"),
        (
            [{"item": i, "rater": "a", "vote": i % 2, **TEXTS} for i in range(4)],
            RaterColumns(),
            "0 and 1 may mean tie and response1",
        ),
        (
            [{"annotator1": i % 2, "annotator2": 1, **TEXTS} for i in range(5)],
            RaterColumns(),
            "0 and 1 may mean tie and response1",
        ),
    ],
)
def test_files_that_cannot_be_read_say_how_to_mend_it(
    tmp_path: Path, rows: list[Any], columns: RaterColumns, problem: str
):
    with pytest.raises(UserError, match=problem) as error:
        read_rated_rows(written(tmp_path, rows), columns)
    assert "Fix:" in str(error.value)


def test_responses_may_be_called_a_and_b_or_be_quoted(tmp_path: Path):
    """Labels of people who copy the better text, or write A, are sides: words would have another alpha."""
    rows = [
        {**TEXTS, "annotator1": "A", "annotator2": "response B", "annotator3": TEXTS["response2"]},
        {**TEXTS, "annotator1": "b", "annotator2": "Tie", "annotator3": TEXTS["response1"], "gold": "A"},
    ]
    rated = read_rated_rows(written(tmp_path, rows))
    assert rated.kind == "comparisons" and not rated.dropped
    assert values(rated) == [
        {"annotator1": -1, "annotator2": 1, "annotator3": 1},
        {"annotator1": 1, "annotator2": 0, "annotator3": -1},
    ]
    assert rated.rows[1].gold == -1


def test_a_text_that_both_responses_have_names_neither(tmp_path: Path):
    same = {"response1": "twin", "response2": "twin", "annotator1": "twin", "annotator2": "first"}
    rated = read_rated_rows(written(tmp_path, [same]))
    assert rated.dropped == {"unknown_label": 1} and values(rated) == [{"annotator2": -1}]


def test_an_empty_first_row_hides_no_responses(tmp_path: Path):
    rows = [{**TEXTS, "response2": None, "annotator1": 1}, {**TEXTS, "annotator1": 2}]
    rated = read_rated_rows(written(tmp_path, rows))
    assert rated.kind == "comparisons" and values(rated) == [{"annotator1": -1}, {"annotator1": 1}]


def test_gold_that_cannot_be_read_is_counted_and_shown(tmp_path: Path):
    rows = [{**TEXTS, "annotator1": 1, "annotator2": 2, "gold": "xyz"}]
    rated = read_rated_rows(written(tmp_path, rows))
    assert rated.dropped == {"unknown_gold": 1} and rated.unread == ["'xyz'"]


@pytest.mark.parametrize("rater", [["a", "b"], {"name": "a"}, " "])
def test_a_rater_is_a_name(tmp_path: Path, rater: object):
    rows = [{"item": 1, "rater": rater, "label": 1}, {"item": 1, "rater": "ünal", "label": 1}]
    rated = read_rated_rows(written(tmp_path, rows))
    assert rated.raters == ["ünal"] and rated.dropped == {"wrong_type:rater": 1}
