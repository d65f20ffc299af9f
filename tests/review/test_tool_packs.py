"""Packs for Label Studio and Argilla: the items of a review as plain files, and their exports back as votes."""

from __future__ import annotations

import ast
import json
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from review.reviewed import attentive, write_responses

from harken.cli.main import main
from harken.errors import UserError
from harken.review.outcomes import outcome_of, unblind
from harken.review.page import import_votes
from harken.review.study import Study, read_study
from harken.review.tool_packs import TOOL_CHOICES
from harken.review.votes import current_votes, read_votes
from harken.run.folder import ReviewFolder


@pytest.fixture(params=["label-studio", "argilla"])
def packed(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Study, ReviewFolder]:
    """A pack that the command wrote, for two raters."""
    files = write_responses(tmp_path)
    out = str(tmp_path / "pack")
    command = ["data", "pack", *files, "--tool", request.param, "--raters", "anna,ben", "--items", "20"]
    assert main([*command, "--output-dir", out]) == 0
    folder = ReviewFolder(Path(out))
    return request.param, read_study(folder), folder


def choice_of(study: Study, task_id: str) -> str:
    """The side that an attentive rater chooses."""
    rater, task = study.by_task[task_id]
    wanted = attentive(rater, task, study.item_of(task))
    return next(side for side in ("left", "right") if outcome_of(side, task.first_left) == wanted)


def exported(tool: str, study: Study, rows: list[dict[str, Any]], **changes: Any) -> list[dict[str, Any]]:
    """What the tool exports when every item was labelled; `changes` names other choices by task."""
    found = []
    for number, row in enumerate(rows):
        task = row["data"]["task"] if tool == "label-studio" else row["id"]
        choice = changes.get(task, choice_of(study, task))
        if tool == "argilla":
            answers = {
                "choice": [{"value": choice, "user_id": "u"}],
                "strength": [{"value": "2", "user_id": "u"}],
            }
            found.append({**row, "responses": answers, "status": "completed"})
            continue
        result = [
            {"from_name": "choice", "to_name": "prompt", "type": "choices", "value": {"choices": [choice]}},
            {"from_name": "strength", "to_name": "prompt", "type": "rating", "value": {"rating": 2}},
            {"from_name": "reasons", "to_name": "prompt", "type": "choices", "value": {"choices": ["clear"]}},
        ]
        annotation = {"id": number, "completed_by": 7, "result": result, "was_cancelled": False, "lead_time": 12.5,
                      "created_at": f"2026-01-01T10:{number:02}:00Z"}  # fmt: skip
        found.append({"id": number, **row, "annotations": [annotation], "predictions": []})
    return found


def written(folder: ReviewFolder, name: str, rows: Any) -> Path:
    path = folder.root / name
    path.write_text(json.dumps(rows))
    return path


def items(tool: str, folder: ReviewFolder, rater: str) -> list[dict[str, Any]]:
    return json.loads((folder.root / tool / f"{rater}.json").read_text())


def test_a_pack_has_every_task_and_names_no_policy(packed: tuple[str, Study, ReviewFolder]):
    tool, study, folder = packed
    for rater, tasks in study.tasks.items():
        rows = items(tool, folder, rater)
        ids = [row["data"]["task"] if tool == "label-studio" else row["id"] for row in rows]
        assert ids == [task.id for task in tasks]
        texts = [row.get("data") or row["fields"] for row in rows]
        for task, shown in zip(tasks, texts, strict=True):
            item = study.item_of(task)
            assert (shown["left"], shown["right"]) == (item.texts if task.first_left else item.texts[::-1])
    kinds = Counter(task.kind for tasks in study.tasks.values() for task in tasks)
    assert kinds["repeat"] and kinds["gold"] and kinds["calibration"]
    content = " ".join(path.read_text() for path in (folder.root / tool).iterdir())
    assert "base" not in content and "ours" not in content and study.key.hex() not in content
    assert study.config.rubric in (folder.root / tool / "rubric.md").read_text()


def test_the_layout_asks_for_every_choice(packed: tuple[str, Study, ReviewFolder]):
    tool, study, folder = packed
    if tool == "argilla":
        script = (folder.root / tool / "settings.py").read_text()
        ast.parse(script)
        ast.parse((folder.root / tool / "export.py").read_text())
        assert repr(TOOL_CHOICES) in script and "rg.LabelQuestion" in script
        return
    root = ElementTree.parse(folder.root / tool / "labeling_config.xml").getroot()
    named = {one.get("name"): one for one in root.iter() if one.get("name")}
    assert {one.get("value") for one in root.iter("Text")} == {"$prompt", "$left", "$right"}
    headers = [one.get("value") for one in root.iter("Header")]
    assert headers[:4] == [study.config.rubric, "Prompt", "Left", "Right"]
    assert "1 slightly, 2 clearly, 3 much" in headers[5]
    assert [one.get("alias") for one in named["choice"]] == list(TOOL_CHOICES)
    assert [one.get("value") for one in named["reasons"]] == study.config.reasons


@pytest.mark.parametrize("side", ["left", "right"])
def test_votes_on_responses_that_were_edited_in_the_tool_are_left_out(
    packed: tuple[str, Study, ReviewFolder], side: str, capsys: pytest.CaptureFixture[str]
):
    """Line breaks may change on the way; words may not."""
    tool, study, folder = packed
    rows = exported(tool, study, items(tool, folder, "anna"))
    texts = [row.get("data") or row["fields"] for row in rows]
    texts[0][side] += " and more"
    texts[1][side] = texts[1][side].replace(" ", "\n", 1)
    added = import_votes(study, folder, written(folder, "edited.json", rows))
    assert added == (len(rows) - 1, 0)
    assert "left out 1 annotations of items with edited responses" in capsys.readouterr().err
    edited = rows[0]["data"]["task"] if tool == "label-studio" else rows[0]["id"]
    assert edited not in {vote.task for vote in read_votes(folder.votes, study.hash)}


def test_markup_in_a_response_is_text_in_argilla(tmp_path: Path):
    """Argilla 2.8.0 shows a text with a tag as HTML, and decodes the entities of any other."""
    marked = "<b>bold</b> <img src='http://127.0.0.1:9/beacon.png'> 1 &lt; 2 {}"
    rows = [{"prompt": f"q{i} <i>", "chosen": marked.format(i), "rejected": f"bad {i}"} for i in range(30)]
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "pack"
    command = ["data", "pack", str(pairs), "--tool", "argilla", "--items", "10", "--raters", "anna"]
    assert main([*command, "--output-dir", str(out)]) == 0
    folder = ReviewFolder(out)
    study, records = read_study(folder), items("argilla", folder, "anna")
    texts = [text for record in records for text in record["fields"].values()]
    assert any("bold" in text for text in texts)
    assert not [text for text in texts if re.search(r"<[a-z/!?]|&[a-z#]", text, re.IGNORECASE)]
    written_back = written(folder, "votes.json", exported("argilla", study, records))
    assert import_votes(study, folder, written_back) == (len(records), 0)


@pytest.mark.parametrize("name", ["李", "a b", "1st", "x" * 41])
def test_a_name_that_cannot_stand_in_a_link_is_refused_with_a_fix(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
):
    files = write_responses(tmp_path)
    assert main(["data", "pack", *files, "--tool", "argilla", "--raters", f"anna,{name}"]) == 2
    assert "cannot stand in links and file names. Fix: use letters from A to Z" in capsys.readouterr().err


def test_an_export_becomes_votes_once(packed: tuple[str, Study, ReviewFolder]):
    tool, study, folder = packed
    for rater in study.tasks:
        path = written(folder, f"{rater}-export.json", exported(tool, study, items(tool, folder, rater)))
        count = len(study.tasks[rater])
        assert import_votes(study, folder, path) == (count, 0)
        assert import_votes(study, folder, path) == (0, count)
    votes = read_votes(folder.votes, study.hash)
    assert {vote.client for vote in votes} == {tool} and {vote.strength for vote in votes} == {2}
    for one in unblind(study, votes):
        assert one.right_gold in (True, None)
        assert one.outcome == attentive(one.vote.rater, one.task, one.item)
    if tool == "label-studio":
        assert votes[0].seconds == 12.5 and votes[0].reasons == ("clear",)


def test_a_later_export_revises(packed: tuple[str, Study, ReviewFolder]):
    tool, study, folder = packed
    rows = items(tool, folder, "anna")
    task = study.tasks["anna"][0].id
    import_votes(study, folder, written(folder, "a.json", exported(tool, study, rows)))
    later = written(folder, "b.json", exported(tool, study, rows, **{task: "tie"}))
    assert import_votes(study, folder, later) == (1, len(rows) - 1)
    assert import_votes(study, folder, later) == (0, len(rows))
    votes = read_votes(folder.votes, study.hash)
    assert current_votes(votes)["anna", task].choice == "tie" and len(votes) == len(rows) + 1


def test_from_pack_to_pairs(packed: tuple[str, Study, ReviewFolder], capsys: pytest.CaptureFixture[str]):
    tool, study, folder = packed
    for rater in study.tasks:
        path = written(folder, f"{rater}-export.json", exported(tool, study, items(tool, folder, rater)))
        assert main(["review", "import", str(folder.root), str(path)]) == 0
    assert main(["review", "report", str(folder.root)]) == 0
    pairs = folder.root / "out.jsonl"
    assert main(["review", "export", str(folder.root), "--out", str(pairs)]) == 0
    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    assert len(rows) == 20 and {row["chosen_policy"] for row in rows} == {"ours"}
    capsys.readouterr()
    assert main(["data", "agreement", str(pairs)]) == 0
    assert "2 raters" in capsys.readouterr().out


@pytest.mark.parametrize("rows", [[], [{"text": "x"}], ["a"]])
def test_another_file_is_refused(packed: tuple[str, Study, ReviewFolder], rows: list[Any]):
    _, study, folder = packed
    with pytest.raises(UserError, match="no labelled items of a pack") as error:
        import_votes(study, folder, written(folder, "x.json", rows))
    assert "Fix: export" in str(error.value)


def test_a_vote_that_is_none_is_refused_with_its_number(packed: tuple[str, Study, ReviewFolder]):
    tool, study, folder = packed
    rows = exported(tool, study, items(tool, folder, "anna"), **{study.tasks["anna"][1].id: "maybe"})
    with pytest.raises(UserError, match="vote 2 is refused: choice"):
        import_votes(study, folder, written(folder, "x.json", rows))


def test_pairs_are_packed_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rows = [{"prompt": f"q{i}", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(30)]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "pack"
    command = ["data", "pack", str(path), "--tool", "argilla", "--items", "10", "--output-dir", str(out)]
    assert main(command) == 0
    assert "harken review import" in capsys.readouterr().out
    assert len(json.loads((out / "argilla" / "rater1.json").read_text())) >= 10
    assert main(["data", "pack", str(path), "--tool", "excel", "--output-dir", str(out)]) == 2
    assert "--tool excel: is none of label-studio, argilla" in capsys.readouterr().err
