"""Where settings come from when weights are far away, not made yet, or nowhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import save_tiny

from harken.errors import UserError
from harken.plan.architecture import find_model, preset_of_path


def test_a_folder_with_settings_alone_is_enough(tmp_path: Path) -> None:
    save_tiny(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    found = find_model(str(tmp_path))
    assert found.config.hidden_size == 32 and found.folder == tmp_path and found.note == ""


def test_the_output_of_an_earlier_preset_is_planned_like_its_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert preset_of_path("outputs/qwen2.5-0.5b_sft/final") == "qwen2.5-0.5b_sft"
    assert preset_of_path("outputs/mine/final") is None
    found = find_model("outputs/qwen2.5-0.5b_sft/final")
    assert found.config.hidden_size == 896
    assert "does not exist yet" in found.note and "Qwen/Qwen2.5-0.5B-Instruct" in found.note


def test_an_adapter_is_planned_by_its_base(tmp_path: Path) -> None:
    save_tiny(tmp_path / "base")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "../base"}))
    (adapter / "adapter_model.safetensors").write_bytes(b"")
    found = find_model(str(adapter))
    assert found.merges_adapters and found.config.hidden_size == 32


@pytest.mark.parametrize("name", ["org/nobody-knows-this", "nowhere"])
def test_a_model_that_nothing_describes_is_one_line(name: str) -> None:
    with pytest.raises(UserError, match=r"no model or config\.json"):
        find_model(name)


def test_settings_that_cannot_be_read_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "unheard_of"}')
    with pytest.raises(UserError, match=r"config\.json cannot be read") as error:
        find_model(str(tmp_path))
    assert "\n" not in str(error.value)
