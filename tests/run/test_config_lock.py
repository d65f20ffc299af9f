"""The configuration that a folder is locked to: what is replaced, what is kept, and what is never overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from harken.config import yaml as config_yaml
from harken.errors import UserError
from harken.run.config_lock import lock_config, read_locked_config
from harken.run.own_folder import PARTIAL_RESULTS, RESULTS

CONFIG = {"model_name": "m", "seed": 1}


def test_a_first_attempt_without_results_is_replaced(tmp_path: Path) -> None:
    """Also one with other keys: an option may add one, and an older version may lack one."""
    path, result = tmp_path / "out" / "config.yml", tmp_path / "out" / "final"
    assert not lock_config(path, CONFIG, result)
    assert not lock_config(path, CONFIG | {"seed": 2, "prompts": "abc"}, result)
    assert read_locked_config(path)["seed"] == 2
    assert not lock_config(path, {"model_name": "m"}, result)
    for name in PARTIAL_RESULTS:
        (path.parent / name).touch()
    assert not lock_config(path, CONFIG, result)


def test_the_results_of_a_killed_attempt_are_its_own(tmp_path: Path) -> None:
    path, pairs = tmp_path / "config.yml", tmp_path / "pairs.jsonl"
    assert not lock_config(path, CONFIG, tmp_path / "manifest.json", own=[pairs])
    pairs.touch()
    assert not lock_config(path, CONFIG, tmp_path / "manifest.json", own=[pairs])


@pytest.mark.parametrize("name", RESULTS)
def test_results_of_another_command_are_not_mixed_with_new_ones(tmp_path: Path, name: str) -> None:
    path = tmp_path / "config.yml"
    path.write_text(config_yaml.write({"policies": {"a": "m"}}))
    (tmp_path / name).touch()
    with pytest.raises(
        UserError, match=f"contains {name}, the result of another command.*another --output-dir"
    ):
        lock_config(path, CONFIG, tmp_path / "result.json")
    assert read_locked_config(path) == {"policies": {"a": "m"}}


@pytest.mark.parametrize(
    "text",
    ["model_name:   m\n", "# mine\nmodel_name: m\nseed: 1\n", "{model_name: m, seed: 1}\n", "a: [\n", ""],
)
def test_a_configuration_written_by_hand_is_not_overwritten(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yml"
    path.write_text(text)
    with pytest.raises(
        UserError, match=r"config\.yml: is not a configuration that Harken wrote.*another --output-dir"
    ):
        lock_config(path, CONFIG, tmp_path / "final")
    assert path.read_text() == text
    path.rename(tmp_path / "mine.yml")  # what the fix says
    assert not lock_config(path, CONFIG, tmp_path / "final")


@pytest.mark.parametrize("name", [*RESULTS, *PARTIAL_RESULTS])
def test_results_without_a_configuration_are_not_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(UserError, match=f"contains {name} but no config.yml"):
        lock_config(tmp_path / "config.yml", CONFIG, tmp_path / "final", tmp_path / "shards")
    assert not (tmp_path / "config.yml").exists()
