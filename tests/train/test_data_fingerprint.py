"""The fingerprint of a run's rows: what changes it and what does not."""

from __future__ import annotations

import json
from dataclasses import field, make_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tiny import save_tiny

from harken.cli.main import main
from harken.config import RunConfig
from harken.config.base import DataConfig
from harken.records import Message, Prompt, TokenDemonstration, TokenPair
from harken.train.load_data import changed_files, lineage

CONFIG = RunConfig.model_construct(data=DataConfig.model_construct(path="rows.jsonl"))
PROMPT = Prompt(
    "1", (Message("system", "Be brief."), Message("user", "Rain?")), "d", "en", details={"k": [1]}
)
PAIR = TokenPair("1", (1, 2), (1, 3), 1.0, 0.5, "d")
DEMONSTRATION = TokenDemonstration("1", (1, 2), (False, True))


def fingerprint(*groups: list[object]) -> str:
    return lineage(CONFIG, *groups)["fingerprint"]


def test_a_renamed_field_changes_no_fingerprint() -> None:
    """Records whose classes and fields have other names, nested ones too, hash as those of today."""
    said = make_dataclass("Said", ["speaker", "words", ("more", str, field(default=""))])
    asked = make_dataclass("Asked", ["key", "turns", "area", "tongue", "answer", "facts", "functions"])
    renamed = asked(
        "1", (said("system", "Be brief."), said("user", "Rain?")), "d", "en", None, {"k": [1]}, ""
    )
    assert fingerprint([renamed]) == fingerprint([PROMPT])
    tokens = make_dataclass("Tokens", ["key", "ids", "learned"])
    assert fingerprint([tokens("1", (1, 2), (False, True))]) == fingerprint([DEMONSTRATION])


@pytest.mark.parametrize(
    ("row", "change"),
    [
        (PROMPT, {"id": "2"}),
        (PROMPT, {"messages": PROMPT.messages[1:]}),
        (PROMPT, {"messages": (PROMPT.messages[0], Message("user", "Rain!"))}),
        (PROMPT, {"details": {"k": [2]}}),
        (PROMPT, {"domain": "en", "language": "d"}),
        (PAIR, {"chosen_tokens": (1, 3), "rejected_tokens": (1, 2)}),
        (PAIR, {"strength": 1.0}),
        (DEMONSTRATION, {"response_mask": (True, True)}),
    ],
)
def test_every_value_and_its_place_count(row: Any, change: dict[str, Any]) -> None:
    assert fingerprint([replace(row, **change)]) != fingerprint([row])


def test_the_order_and_the_groups_of_rows_count() -> None:
    other = replace(DEMONSTRATION, id="2")
    assert len({
        fingerprint([DEMONSTRATION, other]), fingerprint([other, DEMONSTRATION]), fingerprint([DEMONSTRATION], [other]),
        fingerprint([DEMONSTRATION]),
    }) == 4  # fmt: skip
    # Where the tokens of a prompt end is derived from both sides.
    assert fingerprint([replace(PAIR, prompt_length=1)]) == fingerprint([PAIR])


@pytest.mark.parametrize("changed", ["rows", "held_out"])
def test_a_finished_run_says_that_its_data_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changed: str
) -> None:
    save_tiny(tmp_path / "model", hidden=16, layers=1)
    row = {"prompt": "Rain?", "response": "No."}
    for name in ("rows", "held_out"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "run.yml").write_text(f"""
model_name: {tmp_path}/model
dtype: float32
lora: {{rank: 2}}
data: {{path: {tmp_path}/rows.jsonl, eval_path: {tmp_path}/held_out.jsonl, max_length: 64}}
training: {{type: sft, lr: 1e-3, batch_size: 1, epochs: 1}}
""")
    command = ["train", "--preset", str(tmp_path / "run.yml"), "--output-dir", str(tmp_path / "out")]
    assert main(command) == 0
    capsys.readouterr()
    assert main(command) == 0
    message = capsys.readouterr().err
    assert "nothing to do" in message and "changed" not in message
    with (tmp_path / f"{changed}.jsonl").open("a") as file:
        file.write(json.dumps(row | {"prompt": "Snow?"}) + "\n")
    assert main(command) == 0
    message = capsys.readouterr().err
    assert f"warning: {tmp_path}/{changed}.jsonl has changed since this run began. Fix: choose" in message


def test_a_folder_of_data_and_a_moved_project_are_compared_by_content(tmp_path: Path) -> None:
    for root in ("one", "two"):
        (tmp_path / root).mkdir()
        (tmp_path / root / "a.jsonl").write_text("{}\n")
    data = {name: DataConfig(path=str(tmp_path / name)) for name in ("one", "two")}
    recorded = lineage(RunConfig.model_construct(data=data["one"]))
    assert changed_files(data["one"], recorded) == changed_files(data["two"], recorded) == []
    (tmp_path / "two" / "a.jsonl").write_text("{} \n")
    assert changed_files(data["two"], recorded) == [str(tmp_path / "two")]
    assert changed_files(DataConfig(path=str(tmp_path / "three")), recorded) == []
    assert changed_files(data["two"], {"name": "two", "fingerprint": "0"}) == [], (
        "an older run recorded no files"
    )


def test_another_programs_manifest_is_not_called_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_tiny(tmp_path / "model", hidden=16, layers=1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.json").write_text('{"name": "x"}')
    (tmp_path / "run.yml").write_text(f"""
model_name: {tmp_path}/model
data: {{path: rows.jsonl}}
training: {{type: sft, lr: 1e-3}}
""")
    assert main(["train", "--preset", str(tmp_path / "run.yml"), "--output-dir", str(tmp_path / "out")]) == 2
    assert "contains manifest.json but no config.yml" in capsys.readouterr().err
