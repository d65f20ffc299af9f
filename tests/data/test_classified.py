"""Labelled responses for a classifier: which label is the positive one, pairs, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harken.config.base import DataConfig
from harken.data.sources import load_classified, load_demonstrations, load_rated
from harken.data_check import check_data
from harken.errors import UserError

ROWS = [("Capital?", "Canberra.", 0), ("Capital?", "Sydney.", 1), ("Sum?", "Four.", 0), ("Sum?", "Five.", 1)]


def written(folder: Path, rows: list[dict[str, Any]]) -> str:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def labelled(folder: Path, names: tuple[object, object]) -> str:
    return written(folder, [{"prompt": p, "response": r, "label": names[i]} for p, r, i in ROWS])


@pytest.mark.parametrize(
    ("names", "positive"),
    [
        (("honest", "faulty"), None),
        (("Good", "BAD"), None),
        ((0, 1), 0),
        ((1, 0), 1),
        ((False, True), "false"),
        ((False, True), False),
        (("blue", "green"), "blue"),
    ],
)
def test_the_positive_label_is_that_of_the_good_responses(
    tmp_path: Path, names: tuple[object, object], positive: str | int | None
) -> None:
    rows, report = load_classified(DataConfig(path=labelled(tmp_path, names), positive_label=positive))
    assert [(row.response, row.desirable) for row in rows] == [
        ("Canberra.", True), ("Sydney.", False), ("Four.", True), ("Five.", False),
    ]  # fmt: skip
    assert "2 positive and 2 negative responses" in report.notes[-1]


@pytest.mark.parametrize("names", [(0, 1), (True, False), ("blue", "green")])
def test_labels_that_may_mean_either_are_refused_and_the_fix_works(
    tmp_path: Path, names: tuple[object, object]
) -> None:
    """1 marks faulty responses in one data set and good ones in the next."""
    path = labelled(tmp_path, names)
    with pytest.raises(
        UserError, match=r"it is unclear which label is the positive one.*2 rows.*data\.positive_label"
    ):
        load_classified(DataConfig(path=path))
    positive = names[0] if isinstance(names[0], str) else int(names[0])  # type: ignore[call-overload]
    if isinstance(names[0], bool):
        positive = str(names[0]).lower()
    assert load_classified(DataConfig(path=path, positive_label=positive))[0][0].desirable


def test_a_classifiers_rows_are_checked_before_training(tmp_path: Path) -> None:
    lines = check_data(DataConfig(path=labelled(tmp_path, (1, 0)), task="classifier", positive_label=1))
    assert lines[0] == "read as classifier"
    assert any(
        "label 1 is the positive one (by data.positive_label): 2 positive and 2 negative" in line
        for line in lines
    )
    with pytest.raises(UserError, match="it is unclear which label is the positive one"):
        check_data(DataConfig(path=labelled(tmp_path, (1, 0)), task="classifier"))


def test_thumbs_are_checked_before_training(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Capital?", "response": "Canberra.", "label": True},
        {"prompt": "Capital?", "response": "Sydney.", "label": False},
        {"prompt": "Capital?", "response": "Perth."},
    ]
    lines = check_data(DataConfig(path=written(tmp_path, rows), task="unpaired_preference"))
    assert lines[0] == "read as unpaired_preference" and "3 rows, 2 kept, 1 dropped" in lines[1]
    assert "no_thumb" in lines[2] and "  1 desirable and 1 undesirable response" in lines
    assert not any("columns not used" in line for line in lines)


def test_conversations_of_trl_have_messages_as_completion(tmp_path: Path) -> None:
    rows = [
        {
            "prompt": [{"role": "user", "content": "Capital?"}],
            "completion": [{"role": "assistant", "content": text}],
            "label": good,
        }
        for text, good in (("Canberra.", True), ("Sydney.", False))
    ]
    found, _ = load_rated(DataConfig(path=written(tmp_path, rows)))
    assert [(row.prompt.messages[-1].content, row.response, row.desirable) for row in found] == [
        ("Capital?", "Canberra.", True), ("Capital?", "Sydney.", False),
    ]  # fmt: skip
    demonstrations, report = load_demonstrations(DataConfig(path=written(tmp_path, rows[:1])))
    assert demonstrations[0].response == "Canberra." and report.kept == 1


def test_columns_of_rows_that_are_dropped_early_are_not_called_unused(tmp_path: Path) -> None:
    rows = [{"prompt": "Capital?", "response": "Perth.", "label": "maybe"}]
    lines = check_data(DataConfig(path=written(tmp_path, rows), task="unpaired_preference"))
    assert "1 row, 0 kept" in lines[1] and not any("columns not used" in line for line in lines)


def test_pairs_without_thumbs_and_rows_without_labels_say_what_to_do(tmp_path: Path) -> None:
    pairs = written(tmp_path, [{"prompt": "Capital?", "chosen": "Canberra.", "rejected": "Sydney."}])
    with pytest.raises(UserError, match="pairs: --task preference"):
        check_data(DataConfig(path=pairs, task="unpaired_preference"))
    plain = written(tmp_path, [{"prompt": "Capital?", "response": "Canberra."}])
    with pytest.raises(UserError, match=r"no row has a label\. Fix: name the column with the labels"):
        check_data(DataConfig(path=plain, task="classifier"))


@pytest.mark.parametrize("task", ["preference", "prompt_only", "unpaired_preference"])
def test_a_task_of_another_stage_is_refused_and_sft_is_not(tmp_path: Path, task: Any) -> None:
    path = labelled(tmp_path, ("honest", "faulty"))
    with pytest.raises(UserError, match=r"data\.task: it is '.*', but this stage reads rows as 'classifier'"):
        load_classified(DataConfig(path=path, task=task))
    assert len(load_classified(DataConfig(path=path, task="sft"))[0]) == 4


def test_one_label_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has 1 \(honest: 4 rows\)"):
        load_classified(DataConfig(path=labelled(tmp_path, ("honest", "honest"))))


def test_both_sides_of_a_pair_are_used_and_ties_are_not(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        [
            {"prompt": "Capital?", "chosen": "Canberra.", "rejected": "Sydney."},
            {"prompt": "Sum?", "chosen": "Four.", "rejected": "Five.", "preference_strength": 0},
        ],
    )
    rows, report = load_classified(DataConfig(path=path))
    assert [(row.response, row.desirable) for row in rows] == [("Canberra.", True), ("Sydney.", False)]
    assert report.dropped == {"tie": 1}
    assert report.notes == [
        "the better side of a pair has the positive label: 1 positive and 1 negative response"
    ]


def test_texts_with_a_label_are_split_and_keep_it(tmp_path: Path) -> None:
    texts = [{"text": f"a film of {n} words that goes on and on and on", "label": n} for n in ("pos", "neg")]
    rows, _ = load_classified(DataConfig(path=written(tmp_path, texts), prompt_words=4))
    assert [(row.response.strip(), row.desirable) for row in rows] == [
        ("words that goes on and on and on", True), ("words that goes on and on and on", False),
    ]  # fmt: skip


def test_rows_without_responses_are_refused(tmp_path: Path) -> None:
    rows = [{"input_ids_chosen": [1, 2], "input_ids_rejected": [1, 3]}]
    with pytest.raises(UserError, match="tokenised_pairs"):
        load_classified(DataConfig(path=written(tmp_path, rows)))
