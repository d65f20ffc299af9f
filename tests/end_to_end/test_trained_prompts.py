"""An evaluation on prompts that a model was trained on says so: in the terminal, in results.json and on the page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from malformed.world import PAIRS, PIPELINE, PROMPTS, jsonl
from tiny import save_tiny

from harken.cli.main import main
from harken.records import Message
from harken.run import trained_prompts


def run(root: Path, asked: list[dict[str, object]]) -> int:
    save_tiny(root / "model")
    jsonl(root / "pairs.jsonl", PAIRS)
    jsonl(root / "prompts.jsonl", PROMPTS)
    jsonl(root / "asked.jsonl", asked)
    text = PIPELINE.format(root=root)
    head, _, tail = text.partition("  eval:")
    text = f"{head}  eval:{tail.replace('prompts.jsonl', 'asked.jsonl')}"
    (root / "pipeline.yml").write_text(text)
    return main(["pipeline", str(root / "pipeline.yml"), "--output-dir", str(root / "out")])


def test_prompts_of_every_stage_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two of PPO's, and of the supervised and the reward model's pairs what was trained on; ids do not matter."""
    asked = [
        {"id": f"x{i}", "prompt": text}
        for i, text in enumerate(["Count to 1", "Count to 2", "Number 3?", "New"])
    ]
    assert run(tmp_path, [dict(row) for row in asked]) == 0
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    by = {
        name: {Path(folder).name: n for folder, n in runs.items()}
        for name, runs in found["trained_on"].items()
    }
    assert by["PPO"]["03_ppo"] == 2
    assert by["the reward model"]["02_rm"] == 1
    assert "Base" not in by and by.get("SFT", {}).keys() <= {"01_sft"}
    assert "2 in PPO's training (03_ppo)" in capsys.readouterr().err
    assert "2 in PPO's training (03_ppo)" in found["notice"]


def test_new_prompts_are_not_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, [{"prompt": f"Something new {i}"} for i in range(3)]) == 0
    assert json.loads((tmp_path / "out" / "results.json").read_text())["trained_on"] == {}
    assert "contaminated" not in capsys.readouterr().err


def test_spaces_and_system_turns_do_not_make_another_prompt() -> None:
    plain = (Message("user", "Count to 2"),)
    assert trained_prompts.digest(plain) == trained_prompts.digest(
        (Message("system", "Be kind"), Message("user", " Count  to 2\n"))
    )
    assert trained_prompts.digest(plain) != trained_prompts.digest((Message("user", "Count to 3"),))
