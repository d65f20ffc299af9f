"""Which names mean the same place after the folder that holds them and the run was moved."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harken.run.moved import is_same_place, translate_moved_paths


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project at its new place; the working directory is in it."""
    new = tmp_path / "new"
    (new / "out" / "02_rm").mkdir(parents=True)
    (new / "out" / "01_sft" / "final").mkdir(parents=True)
    (new / "rows.jsonl").write_text("")
    (new / "score.py").write_text("")
    (tmp_path / "beside").write_text("")
    monkeypatch.chdir(new)
    return new


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("/old/place/rows.jsonl", "{here}/rows.jsonl"),
        ("/old/place/rows.jsonl", "rows.jsonl"),
        ("/old/place/out/01_sft/final", "out/../out/01_sft/final"),
        ("place/rows.jsonl", "rows.jsonl"),
        ("/old/score.py:score", "score.py:score"),
        ("{here}/rows.jsonl", "rows.jsonl"),
        ("out/01_sft/final", "{here}/out/01_sft/final"),
        ("rows.jsonl", "{here}/rows.jsonl"),
    ],
)
def test_the_same_place_within_what_moved(project: Path, old: str, new: str) -> None:
    assert is_same_place(old.format(here=project), new.format(here=project), project / "out" / "02_rm")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("/old/other.jsonl", "rows.jsonl"),
        ("/old/place/rows.jsonl", "missing/rows.jsonl"),
        ("/old/03_ppo/final", "out/01_sft/final"),
        ("/old/score.py:score", "score.py:other"),
        ("/old/score.py:score", "score.py"),
        ("{here}/../beside", "rows.jsonl"),
        ("org/name", "org/other"),
        ("", "rows.jsonl"),
        ("/old/rows.jsonl", ""),
    ],
)
def test_another_place(project: Path, old: str, new: str) -> None:
    assert not is_same_place(old.format(here=project), new.format(here=project), project / "out" / "02_rm")


def test_an_existing_folder_did_not_move(project: Path, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "rows.jsonl").write_text("")
    assert not is_same_place(str(tmp_path / "old" / "rows.jsonl"), "rows.jsonl", project / "out")
    os.remove(tmp_path / "old" / "rows.jsonl")
    assert is_same_place(str(tmp_path / "old" / "rows.jsonl"), "rows.jsonl", project / "out")


def test_every_name_of_a_configuration(project: Path) -> None:
    old = {
        "data": {"path": "/old/rows.jsonl", "limit": 3},
        "rewards": [{"path": "/old/score.py:f"}],
        "gone": 1,
    }
    new = {"data": {"path": "rows.jsonl", "limit": 4}, "rewards": [{"path": "score.py:f"}]}
    assert translate_moved_paths(old, new, project / "out") == {
        "data": {"path": "rows.jsonl", "limit": 3},
        "rewards": [{"path": "score.py:f"}],
        "gone": 1,
    }
