"""The configuration that a folder is locked to: what is replaced, what is kept, and what is never overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from harken.errors import UserError
from harken.run.config_lock import lock_config, read_locked_config

CONFIG = {"model_name": "m", "seed": 1}


def test_a_first_attempt_without_results_is_replaced(tmp_path: Path) -> None:
    path, result = tmp_path / "out" / "config.yml", tmp_path / "out" / "final"
    assert not lock_config(path, CONFIG, result)
    assert not lock_config(path, CONFIG | {"seed": 2, "template_time": "2026-01-01"}, result)
    assert read_locked_config(path)["seed"] == 2
    assert not lock_config(path, CONFIG, result)


@pytest.mark.parametrize(
    "text",
    [
        "model_name: m\n",  # a file that sets only some keys, as people write it
        "policies: {a: m}\nseed: 1\n",  # of another command
        "model_name: m\nseed: 1\nowner: anna\n",
    ],
)
def test_a_configuration_of_somebody_else_is_not_overwritten(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yml"
    path.write_text(text)
    with pytest.raises(
        UserError, match=r"config\.yml: was written by hand or by another command.*another --output-dir"
    ):
        lock_config(path, CONFIG, tmp_path / "final")
    assert path.read_text() == text
    path.rename(tmp_path / "mine.yml")  # what the fix says
    assert not lock_config(path, CONFIG, tmp_path / "final")


@pytest.mark.parametrize("name", ["final", "shards", "manifest.json"])
def test_results_without_a_configuration_are_not_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(UserError, match=f"this folder has {name} but no config.yml"):
        lock_config(tmp_path / "config.yml", CONFIG, tmp_path / "final", tmp_path / "shards")
    assert not (tmp_path / "config.yml").exists()
