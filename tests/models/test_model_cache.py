"""Folders that are made once, whole, whoever asks first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harken.errors import UserError
from harken.models.model_cache import build_once, cache_root

PROCESS = """
import sys, time
from pathlib import Path
from harken.models.model_cache import build_once

def build(place):
    with open(sys.argv[2], "a") as log:
        log.write("built\\n")
    (place / "one").write_text("1")
    time.sleep(0.5)
    (place / "two").write_text("2")

folder = build_once(Path(sys.argv[1]), "building", build)
assert sorted(p.name for p in folder.iterdir()) == ["one", "two"]
"""


def write(text: str):  # type: ignore[no-untyped-def]
    return lambda place: (place / "file").write_text(text)


def test_the_cache_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root() == tmp_path / "harken"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache_root() == Path("/home/somebody/.cache/harken")


def test_a_folder_is_made_once_and_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "deep" / "model"
    assert build_once(folder, "making it", write("first")) == folder
    assert build_once(folder, "making it", write("second")) == folder
    assert (folder / "file").read_text() == "first"
    assert capsys.readouterr().err.count("making it") == 1


def test_processes_that_want_it_at_once_make_it_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", PROCESS, str(tmp_path / "model"), str(log)]
    running = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(timeout=60) for process in running] == [0, 0]
    assert log.read_text() == "built\n"


def test_a_failure_leaves_nothing_and_can_be_repeated(tmp_path: Path) -> None:
    def broken(place: Path) -> None:
        (place / "half").write_text("")
        raise UserError("no network")

    with pytest.raises(UserError, match="no network"):
        build_once(tmp_path / "model", "making it", broken)
    assert [p for p in tmp_path.iterdir() if p.is_dir()] == []
    build_once(tmp_path / "model", "making it", write("whole"))
    assert (tmp_path / "model" / "file").read_text() == "whole"


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".model.making-abc").mkdir()
    (tmp_path / ".model.making-abc" / "half").write_text("")
    build_once(tmp_path / "model", "making it", write("whole"))
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == ["model"]


def test_a_cache_that_cannot_be_written_is_the_users_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written to.*XDG_CACHE_HOME"):
        build_once(tmp_path / "file" / "model", "making it", write(""))
