"""Columns: mapped by name, used or named, and layouts in common use that bring more than a prompt and two texts."""

# ruff: noqa: E501  one row a line reads better than a wrapped one

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harken.config import files as config_files
from harken.config.base import DataConfig
from harken.data import parse
from harken.errors import UserError
from harken.records import Message, Preference


def write(folder: Path, *rows: Any) -> str:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def pair(folder: Path, row: dict[str, Any], **data: Any) -> Preference:
    [found], _ = parse.parse_preference_rows(DataConfig(path=write(folder, row), **data))
    assert isinstance(found, Preference)
    return found


USER = (Message("user", "Name a colour."),)
SYSTEM = (Message("system", "Be terse."), *USER)
PAIR = {"chosen": "Blue.", "rejected": "No."}
SAID = [{"from": "human", "value": "Name a colour."}]


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        (PAIR | {"instruction": "Answer.", "input": "Name a colour."}, (Message("user", "Answer.\n\nName a colour."),)),
        (PAIR | {"instruction": "Name a colour.", "input": ""}, USER),
        (PAIR | {"question": "Name a colour."}, USER),
        (PAIR | {"question": "Name a colour.", "system": "Be terse."}, SYSTEM),
        (PAIR | {"question": "Name a colour.", "system": " "}, USER),
        (PAIR | {"prompt": "Name a colour.", "system": "Be terse."}, SYSTEM),
        (PAIR | {"conversations": SAID, "system": "Be terse."}, SYSTEM),
        ({"conversations": SAID, "chosen": {"from": "gpt", "value": "Blue."}, "rejected": {"from": "gpt", "value": "No."}}, USER),
        (
            PAIR | {"instruction": "Name a colour.", "history": [["Hi.", "Hello."]], "system": "Be terse."},
            (SYSTEM[0], Message("user", "Hi."), Message("assistant", "Hello."), *USER),
        ),
        (
            {"prompt": "\n\nHuman: Name a colour. \n\nAssistant: ", "answers": [{"answer": "No.", "rank": 2.0}, {"answer": "Blue.", "rank": 1.0}]},
            USER,
        ),
        ({"instruction": "Name a colour.", "completions": [{"response": "Blue.", "overall_score": 8}, {"response": "No.", "overall_score": 3.5}]}, USER),
        (
            {"prompt": '["Name a colour."]', "response_a": '["No."]', "response_b": '["Blue."]', "winner_model_a": 0, "winner_model_b": 1, "winner_tie": 0},
            USER,
        ),
        (
            {
                "conversation_a": [{"role": "user", "content": "Name a colour."}, {"role": "assistant", "content": "Blue."}],
                "conversation_b": [{"role": "user", "content": "Name a colour."}, {"role": "assistant", "content": "No."}],
                "winner": "model_a",
            },
            USER,
        ),
    ],
)  # fmt: skip
def test_layouts_in_common_use_give_the_right_pair(
    tmp_path: Path, row: dict[str, Any], prompt: tuple[Message, ...]
) -> None:
    found = pair(tmp_path, row)
    assert (found.prompt.messages, found.chosen, found.rejected) == (prompt, "Blue.", "No.")
    [demonstration], _ = parse.parse_demonstration_rows(DataConfig(path=write(tmp_path, row)))
    assert (demonstration.prompt.messages, demonstration.response) == (prompt, "Blue.")
    [alone], _ = parse.parse_prompt_rows(DataConfig(path=write(tmp_path, row)))
    assert alone.messages == prompt


def test_a_battle_whose_earlier_turns_differ_has_no_common_prompt(tmp_path: Path) -> None:
    row = {"prompt": '["a", "b"]', "response_a": '["1", "2"]', "response_b": '["3", "4"]'}
    flags = {"winner_model_a": 1, "winner_model_b": 0, "winner_tie": 0}
    same = row | {"response_b": '["1", "4"]'}
    found, report = parse.parse_preference_rows(DataConfig(path=write(tmp_path, row | flags, same | flags)))
    assert report.dropped == {"prompts_differ": 1}
    assert [m.content for m in found[0].prompt.messages] == ["a", "1", "b"]  # type: ignore[union-attr]
    two = flags | {"winner_tie": 1}
    assert parse.parse_preference_rows(DataConfig(path=write(tmp_path, same | two)))[1].dropped == {
        "unknown_label": 1
    }


def test_a_system_column_reaches_every_task(tmp_path: Path) -> None:
    row = {"system": "Be terse.", "conversations": [*SAID, {"from": "gpt", "value": "Blue."}]}
    path = write(tmp_path, row)
    [demonstration], report = parse.parse_demonstration_rows(DataConfig(path=path))
    [prompt], _ = parse.parse_prompt_rows(DataConfig(path=path))
    assert demonstration.prompt.messages == prompt.messages == SYSTEM
    assert report.unused == []
    own = {"system": "Ignored.", "messages": [{"role": "system", "content": "Be terse."}, *SAID, {"role": "assistant", "content": "Blue."}]}  # fmt: skip
    [demonstration], _ = parse.parse_demonstration_rows(DataConfig(path=write(tmp_path, own)))
    assert demonstration.prompt.messages == SYSTEM, "a system turn of the messages themselves stays"


MAPPED = {"q": "Name a colour.", "good": "Blue.", "bad": "No.", "about": {"sys": "Be terse."}}


def test_columns_are_mapped_by_name_for_any_layout(tmp_path: Path) -> None:
    found = pair(
        tmp_path, MAPPED, columns={"prompt": "q", "chosen": "good", "rejected": "bad", "system": "about.sys"}
    )
    assert (found.prompt.messages, found.chosen, found.rejected) == (SYSTEM, "Blue.", "No.")
    with pytest.raises(UserError, match=r"no row has a column 'qq'; there are about, bad, good, q"):
        pair(tmp_path, MAPPED, columns={"prompt": "qq"})


@pytest.mark.parametrize(
    ("row", "task"),
    [
        ({"query": "Name a colour.", "better": "Blue.", "worse": "No."}, "preference"),
        ({"post": "Name a colour.", "best_reply": "Blue.", "worst_reply": "No."}, "preference"),
        ({"ask": "Name a colour.", "gold_reply": "Blue."}, "sft"),
        ({"foo": "Name a colour.", "bar": "Blue."}, "sft"),
    ],
)
def test_the_proposed_fix_works(tmp_path: Path, row: dict[str, str], task: str) -> None:
    path = write(tmp_path, row)
    with pytest.raises(UserError, match="no layout fits") as caught:
        parse.parse_preference_rows(DataConfig(path=path))
    proposed = str(caught.value).split("--set '", 1)[1].split("'", 1)[0]
    (tmp_path / "run.yml").write_text(f"data: {{path: {path}}}\ntraining: {{type: sft}}\n")
    data = config_files.load_run(str(tmp_path / "run.yml"), [proposed]).data
    if task == "preference":
        [found], _ = parse.parse_preference_rows(data)
        assert (found.prompt.messages, found.chosen, found.rejected) == (USER, "Blue.", "No.")  # type: ignore[union-attr]
    else:
        [shown], _ = parse.parse_demonstration_rows(data)
        assert (shown.prompt.messages, shown.response) == (USER, "Blue.")


def test_columns_that_nothing_reads_are_named(tmp_path: Path) -> None:
    """A column with a value is used, or stands in the account."""
    row = PAIR | {
        "prompt": "q",
        "id": "x",
        "domain": "d",
        "language": "l",
        "rating": 4,
        "tags": ["a"],
        "empty": None,
    }
    _, report = parse.parse_preference_rows(DataConfig(path=write(tmp_path, row)))
    assert report.unused == ["rating", "tags"]
    assert "  columns not used: rating, tags" in report.lines()
    assert report.to_dict()["columns_not_used"] == ["rating", "tags"]


def test_scores_of_chosen_and_rejected_are_compared(tmp_path: Path) -> None:
    scores = [(8, 3), (5, 5), (2, 9), (4.0, "4")]
    rows = [
        PAIR | {"prompt": f"q{i}", "score_chosen": a, "score_rejected": b} for i, (a, b) in enumerate(scores)
    ]
    found, report = parse.parse_preference_rows(DataConfig(path=write(tmp_path, *rows)))
    assert len(found) == 4 and report.unused == []
    message = " ".join(report.warnings)
    assert "2 rows with chosen and rejected scored equally" in message
    assert "1 row with chosen and rejected scored the other way round" in message


@pytest.mark.parametrize("bad", [False, "False", "false", 0])
def test_a_response_marked_as_bad_is_never_imitated(tmp_path: Path, bad: object) -> None:
    rows = [
        {"prompt": "a", "completion": "good", "label": True},
        {"prompt": "b", "completion": "bad", "label": bad},
    ]
    found, report = parse.parse_demonstration_rows(DataConfig(path=write(tmp_path, *rows)))
    assert [shown.response for shown in found] == ["good"]
    assert report.dropped == {"labelled_bad": 1}


@pytest.mark.parametrize("column", parse.REFERENCES)
def test_the_gold_answer_of_a_prompt_is_its_reference(tmp_path: Path, column: str) -> None:
    [text], _ = parse.parse_prompt_rows(DataConfig(path=write(tmp_path, {"prompt": "2+2?", column: "4"})))
    [number], _ = parse.parse_prompt_rows(DataConfig(path=write(tmp_path, {"prompt": "2+2?", column: 4})))
    assert text.reference == number.reference == "4"
    [none], _ = parse.parse_prompt_rows(DataConfig(path=write(tmp_path, {"prompt": "2+2?", column: None})))
    assert none.reference is None
