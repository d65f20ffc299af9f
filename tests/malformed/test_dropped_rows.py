"""Bad rows among good ones are dropped one by one, named, counted and written down, and training goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from malformed.file_cases import train
from malformed.row_cases import ROWS, rows
from malformed.world import World, make_world

from harken.cli.main import main
from harken.data.report import MAX_LISTED_ROWS

GOOD = 8
STAGES = {
    "sft": ["messages", "instruction", "question", "text", "instances", "prompt"],
    "reward": ["prompt_chosen_rejected", "chosen_rejected", "a_b_label", "helpsteer3", "ranking"],
    "ppo": ["turns", "prompt"],
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


def numbered(row: dict[str, Any], number: int) -> dict[str, Any]:
    """The same row about something else: a repeated prompt would be an error of its own."""
    text = json.dumps(row)
    for end in ('"', "\\n"):
        text = text.replace(f'"q{end}', f'"q{number}{end}').replace(f" q{end}", f" q{number}{end}")
    return json.loads(text)


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("stage", "layout"), [(stage, layout) for stage, layouts in STAGES.items() for layout in layouts]
)
def test_training_continues_without_invalid_rows(
    stage: str, layout: str, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = [numbered(ROWS[layout][1], i) for i in range(GOOD)]
    bad = [row for name, row in rows(layout) if stage != "ppo" or not name.startswith("response")]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*good, *bad]))
    sets = [f"data.layout={layout}", "data.eval_fraction=0"]
    assert main(train(world, stage, tmp_path, str(path), *sets)) == 0
    message = capsys.readouterr().err
    out = tmp_path / "out"
    assert (out / "final").is_dir()
    report = json.loads((out / "data_report.json").read_text())[0]
    rejects = [json.loads(line) for line in (out / "rejects.jsonl").read_text().splitlines()]
    assert report["raw"] == report["kept"] + sum(report["dropped"].values())
    assert sum(report["dropped"].values()) == len(rejects) == len(bad)
    # Every bad row by its place, in order: all of them in the file, the first of them in `harken data`.
    assert [reject["where"] for reject in rejects] == [f"{path}:{GOOD + 1 + i}" for i in range(len(bad))]
    account = [line for line in message.splitlines() if line.startswith(str(path))]
    assert len(account) == 1 and f"{len(bad)} dropped" in account[0]
    assert not any(line.startswith(f"  {path}:") for line in message.splitlines())
    assert f"full report: {out / 'data_report.json'}; dropped rows: {out / 'rejects.jsonl'}" in message
    task = {"sft": "sft", "reward": "preference", "ppo": "prompt_only"}[stage]
    assert main(["data", str(path), "--task", task, "--layout", layout]) == 0
    message = capsys.readouterr().out
    listed = [line for line in message.splitlines() if line.startswith(f"  {path}:")]
    assert len(listed) == min(len(bad), MAX_LISTED_ROWS)
    for line, reject in zip(listed, rejects, strict=False):
        place = ":".join(part for part in (reject["where"], reject["field"]) if part)
        assert line.startswith(f"  {place}: {reject['reason']}: ")
    assert (f"… and {len(bad) - MAX_LISTED_ROWS:,} more dropped rows" in message) == (
        len(bad) > MAX_LISTED_ROWS
    )


def test_a_huge_row_is_read_and_dropped(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half a megabyte in one response: too long, and never truncated."""
    path = tmp_path / "rows.jsonl"
    texts = [{"prompt": f"q{i}", "response": "a"} for i in range(4)]
    path.write_text(
        "".join(json.dumps(row) + "\n" for row in [*texts, {"prompt": "q", "response": "x " * 250_000}])
    )
    assert main(train(world, "sft", tmp_path, str(path), "data.eval_fraction=0")) == 0
    assert "dropped 1 response_too_long" in capsys.readouterr().err


def test_duplicates_and_leaks_are_reported(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the hash of the conversation, whatever the rows' ids: rows that stand there twice, held-out prompts that
    are trained on."""
    good = [{"id": f"r{i}", "prompt": f"q{i}", "response": f"a{i}"} for i in range(6)]
    again = {"id": "other", "prompt": "q0", "response": "a0"}
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*good, again]))
    held_out = [{"id": "new", "prompt": "q1", "response": "z"}, {"prompt": "unseen", "response": "z"}]
    (tmp_path / "held.jsonl").write_text("".join(json.dumps(row) + "\n" for row in held_out))
    sets = ["data.eval_fraction=0", f"data.eval_path={tmp_path / 'held.jsonl'}"]
    assert main(train(world, "sft", tmp_path, str(tmp_path / "train.jsonl"), *sets)) == 0
    message = capsys.readouterr().err
    assert "warning: 1 of 7 rows repeat an earlier one" in message
    assert "warning: 1 of 2 held-out prompts are in the training data" in message
    accounts = json.loads((tmp_path / "out" / "data_report.json").read_text())
    assert [len(account["warnings"]) for account in accounts] == [1, 1]
    assert main(["data", str(tmp_path / "train.jsonl"), "--task", "sft"]) == 0
    assert "warning: 1 of 7 rows repeat an earlier one" in capsys.readouterr().out
