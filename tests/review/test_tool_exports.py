"""Exports that Label Studio 1.23.2 and Argilla 2.8.0 wrote themselves become the raters' votes.

The files in `exports/` are synthetic projects with 14 items of a rater, labelled through the tools' own APIs by two
accounts and exported by the tools' own exporters. TASK-03, LEFT-03 and RIGHT-03 stand for the id and the responses of
the rater's item 3.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from review.reviewed import planned

from harken.errors import UserError
from harken.review.page import import_votes
from harken.review.session import shown_task
from harken.review.study import Study
from harken.review.votes import current_votes, read_votes
from harken.run.folder import ReviewFolder

EXPORTS = Path(__file__).parent / "exports"
LABEL_STUDIO = ["label_studio_1.23.2.json", "label_studio_1.23.2.min.json", "label_studio_1.23.2.csv",
                "label_studio_1.23.2.tsv"]  # fmt: skip
ARGILLA = ["argilla_2.8.0.export.json", "argilla_2.8.0.to_json.json"]

COMMON = {
    0: ("left", 2, ("correct", "clear")),
    1: ("right", 1, ("clear",)),
    2: ("tie", 0, ()),
    3: ("both_bad", 0, ()),
    4: ("skip", 0, ()),
    6: ("right", 3, ("complete",)),  # first left, then edited
    7: ("left", 1, ()),  # the other account: right
    9: ("left", 1, ()),  # with a draft for right in Label Studio
    10: ("left", 1, ()),  # with a prediction for right
    11: ("left", 2, ()),  # skipped first
}
SKIPPED = ("skip", 0, ())
EXPECTED: dict[str, dict[int, Any]] = {
    "label_studio_1.23.2.json": COMMON | {5: SKIPPED},
    "label_studio_1.23.2.min.json": COMMON,  # has no skipped annotations
    "label_studio_1.23.2.csv": COMMON,
    "label_studio_1.23.2.tsv": COMMON,
    "argilla_2.8.0.export.json": COMMON | {5: SKIPPED},
    # no status of single responses: neither that of the discarded one, nor which of two accounts submitted item 7
    "argilla_2.8.0.to_json.json": {item: vote for item, vote in COMMON.items() if item != 7},
}
LEFT_OUT = {
    "label_studio_1.23.2.json": ["2 drafts", "1 annotations without a choice", "1 annotations of other accounts",
                                 "1 earlier annotations"],
    "label_studio_1.23.2.min.json": ["1 annotations without a choice", "1 annotations of other accounts"],
    "label_studio_1.23.2.csv": ["1 annotations without a choice", "1 annotations of other accounts"],
    "label_studio_1.23.2.tsv": ["1 annotations without a choice", "1 annotations of other accounts"],
    "argilla_2.8.0.export.json": ["1 drafts", "1 annotations of other accounts"],
    "argilla_2.8.0.to_json.json": ["2 responses that were not submitted", "2 responses without a status"],
}  # fmt: skip


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return planned(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> ReviewFolder:
    (tmp_path / "review").mkdir()
    return ReviewFolder(tmp_path / "review")


def export_of(study: Study, name: str, folder: ReviewFolder) -> Path:
    """The file of the tool, with the ids and responses of anna's first 14 items."""
    text = (EXPORTS / name).read_text(encoding="utf-8")
    for number, task in enumerate(study.tasks["anna"][:14]):
        shown = shown_task(study, task)
        for word, value in (("TASK", task.id), ("LEFT", shown["left"]), ("RIGHT", shown["right"])):
            text = text.replace(f"{word}-{number:02}", value)
    assert "TASK-" not in text
    path = folder.root / name
    path.write_text(text, encoding="utf-8")
    return path


def current(study: Study, folder: ReviewFolder) -> dict[int, Any]:
    numbers = {task.id: number for number, task in enumerate(study.tasks["anna"])}
    votes = current_votes(read_votes(folder.votes, study.hash)).values()
    assert {vote.rater for vote in votes} == {"anna"}
    return {numbers[vote.task]: (vote.choice, vote.strength, vote.reasons) for vote in votes}


@pytest.mark.parametrize("name", EXPECTED)
def test_an_export_of_the_tool_gives_the_raters_votes(
    study: Study, folder: ReviewFolder, name: str, capsys: pytest.CaptureFixture[str]
):
    path = export_of(study, name, folder)
    assert import_votes(study, folder, path) == (len(EXPECTED[name]), 0)
    said = capsys.readouterr().err
    assert current(study, folder) == EXPECTED[name]
    assert all(count in said for count in LEFT_OUT[name]), said
    assert import_votes(study, folder, path) == (0, len(EXPECTED[name]))


@pytest.mark.parametrize("name", LABEL_STUDIO)
def test_seconds_come_from_label_studio(study: Study, folder: ReviewFolder, name: str):
    import_votes(study, folder, export_of(study, name, folder))
    seconds = {vote.task: vote.seconds for vote in read_votes(folder.votes, study.hash)}
    assert [seconds[study.tasks["anna"][number].id] for number in (0, 6)] == [12.345, 20.5]


def test_every_format_of_a_tool_gives_the_same_votes(study: Study, folder: ReviewFolder):
    """Import after import changes nothing: a fuller format adds only the skipped item."""
    for name in reversed(LABEL_STUDIO):
        import_votes(study, folder, export_of(study, name, folder))
    assert len(read_votes(folder.votes, study.hash)) == len(COMMON) + 1


def rows_of(study: Study, folder: ReviewFolder, name: str) -> list[dict[str, Any]]:
    return json.loads(export_of(study, name, folder).read_text())


def test_a_skip_after_a_vote_revises_it(study: Study, folder: ReviewFolder):
    rows = rows_of(study, folder, LABEL_STUDIO[0])
    path = folder.root / "later.json"
    path.write_text(json.dumps(rows))
    import_votes(study, folder, path)
    rows[0]["annotations"][0] |= {"was_cancelled": True, "updated_at": "2030-01-01T00:00:00Z"}
    path.write_text(json.dumps(rows))
    assert import_votes(study, folder, path) == (1, len(COMMON))
    assert current(study, folder)[0] == SKIPPED


def test_items_of_one_rater_labelled_by_several_accounts_are_refused(study: Study, folder: ReviewFolder):
    rows = rows_of(study, folder, LABEL_STUDIO[1])
    for row in rows[:5]:
        row["annotator"] = 3
    path = folder.root / "shared.json"
    path.write_text(json.dumps(rows))
    with pytest.raises(
        UserError,
        match=r"several accounts labelled the items of rater anna: 3 \(6\), 2 \(5\)",
    ):
        import_votes(study, folder, path)
    path.write_text(json.dumps([row for row in rows if row["annotator"] == 2]))  # what the fix says
    assert import_votes(study, folder, path) == (5, 0)


def test_a_snapshot_names_accounts_as_objects(study: Study, folder: ReviewFolder):
    rows = rows_of(study, folder, LABEL_STUDIO[0])
    for row in rows:
        for one in row["annotations"]:
            one["completed_by"] = {"id": one["completed_by"], "email": "rater@example.com"}
        row["drafts"], row["predictions"] = [1], [2]  # ids, as in a snapshot
    path = folder.root / "snapshot.json"
    path.write_text(json.dumps(rows))
    import_votes(study, folder, path)
    assert current(study, folder) == EXPECTED[LABEL_STUDIO[0]]


def test_votes_come_in_order_of_time(study: Study, folder: ReviewFolder):
    rows = rows_of(study, folder, LABEL_STUDIO[1])
    rows[0]["updated_at"] = "2030-01-01T00:00:00.000000Z"
    path = folder.root / "late.json"
    path.write_text(json.dumps(rows))
    import_votes(study, folder, path)
    assert read_votes(folder.votes, study.hash)[-1].task == study.tasks["anna"][0].id


def test_a_page_that_stayed_open_for_days_is_a_day(study: Study, folder: ReviewFolder):
    rows = rows_of(study, folder, LABEL_STUDIO[1])
    rows[0]["lead_time"] = 300_000.5
    path = folder.root / "open.json"
    path.write_text(json.dumps(rows))
    import_votes(study, folder, path)
    assert max(vote.seconds for vote in read_votes(folder.votes, study.hash)) == 86_400


def test_items_of_another_review_are_refused(study: Study, folder: ReviewFolder):
    path = folder.root / "other.json"
    path.write_text((EXPORTS / LABEL_STUDIO[0]).read_text())
    with pytest.raises(
        UserError, match=r"11 items are not of this review, such as 'TASK-00'\. Fix: name the folder"
    ):
        import_votes(study, folder, path)


def argilla_table(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def test_other_formats_of_argilla_are_refused_with_a_fix(study: Study, folder: ReviewFolder):
    """`to_datasets().to_json` (JSON lines), `to_csv`, `to_dict(flatten=True)` and a folder of `to_disk`."""
    rows = rows_of(study, folder, ARGILLA[0])
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    contents = {
        "lines": "".join(json.dumps(row) + "\n" for row in rows),
        "columns": json.dumps(columns),
        "table": argilla_table(rows),
    }
    for name, content in contents.items():
        path = folder.root / name
        path.write_text(content)
        with pytest.raises(UserError, match=r"Fix: export the .*Argilla"):
            import_votes(study, folder, path)
    with pytest.raises(UserError, match=r"it is a folder.*Fix: name a file of votes \(records.json in"):
        import_votes(study, folder, folder.root)
