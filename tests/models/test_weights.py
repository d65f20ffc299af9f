"""A weight that is missing is an error: the libraries would make one up."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import save_tiny, tiny_backbone, tiny_model, with_adapters

from harken.errors import UserError
from harken.models.weights import load_adapter, read_model, read_tensors


def without_first(path: Path) -> str:
    tensors = load_file(path)
    name = sorted(tensors)[0]
    save_file({k: t for k, t in tensors.items() if k != name}, path, metadata={"format": "pt"})
    return name


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    backbone = with_adapters(tiny_backbone())
    backbone.save_adapter("policy", tmp_path / "adapter", tmp_path / "base")
    return tmp_path / "adapter"


def test_a_whole_model_is_read_bit_for_bit(tmp_path: Path) -> None:
    save_tiny(tmp_path, seed=3)
    read, made = read_model(tmp_path, torch.float32).state_dict(), tiny_model(3).state_dict()
    assert all(torch.equal(read[name], made[name]) for name in made)


def test_a_model_with_a_weight_missing_is_refused(tmp_path: Path) -> None:
    save_tiny(tmp_path)
    name = without_first(tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=f"weights are missing: .*{name}"):
        read_model(tmp_path, torch.float32)


def test_an_adapter_with_a_weight_missing_is_refused(adapter: Path) -> None:
    load_adapter(tiny_model(), adapter)
    name = without_first(adapter / "adapter_model.safetensors")
    with pytest.raises(UserError, match=f"weights are missing: {name}"):
        load_adapter(tiny_model(), adapter)


def test_a_second_adapter_is_checked_like_the_first(adapter: Path) -> None:
    model = load_adapter(tiny_model(), adapter, "one")
    without_first(adapter / "adapter_model.safetensors")
    with pytest.raises(UserError, match="weights are missing"):
        load_adapter(model, adapter, "two")


def test_tensors_are_taken_by_name(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    save_file({"weight": torch.ones(2), "more": torch.ones(1)}, path)
    assert list(read_tensors(path, ["weight"])) == ["weight"]
    with pytest.raises(UserError, match="weights are missing: bias"):
        read_tensors(path, ["bias", "weight"])
    path.write_bytes(b"text")
    with pytest.raises(UserError, match="not readable safetensors"):
        read_tensors(path, ["weight"])
