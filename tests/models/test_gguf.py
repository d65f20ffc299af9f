"""GGUF files against the model they were written from."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from tiny import tiny_model, tiny_tokenizer
from tiny_gguf import MERGED, write_tiny_gguf
from transformers import AutoModelForCausalLM

from harken.errors import UserError
from harken.models.gguf import gguf_folder
from harken.models.tokenizer import load_tokenizer


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("gguf")
    path = write_tiny_gguf(root / "tiny.gguf")
    return path, gguf_folder(path, root / "cache")


def test_the_weights_are_those_that_were_written(converted: tuple[Path, Path]) -> None:
    """Every tensor, bit for bit after one rounding to bfloat16: heads are back in their order."""
    model = AutoModelForCausalLM.from_pretrained(converted[1], dtype="auto")
    assert model.dtype == torch.bfloat16
    assert not hasattr(model.config, "quantization_config")
    found, written = model.state_dict(), tiny_model().state_dict()
    assert found.keys() == written.keys()
    for name, tensor in written.items():
        assert torch.equal(found[name], tensor.bfloat16()), name


def test_the_tokenizer_is_the_one_that_was_written(converted: tuple[Path, Path]) -> None:
    """P1: the file says pad = eos; the folder does not, and nothing has to be said about it again."""
    tokenizer = load_tokenizer(converted[1])
    text = "hello wörld <|im_end|>\n"
    assert tokenizer.encode(text) == tiny_tokenizer().encode(text)
    assert tokenizer.decode(tokenizer.encode(MERGED)) == MERGED
    assert tokenizer.chat_template == tiny_tokenizer().chat_template
    assert (tokenizer.pad_token, tokenizer.eos_token) == ("<pad>", "<|im_end|>")
    assert json.loads((converted[1] / "config.json").read_text())["pad_token_id"] == 0


def test_the_folder_records_its_source(converted: tuple[Path, Path]) -> None:
    path, folder = converted
    card = json.loads((folder / "PROVENANCE.json").read_text())
    assert card["source"] == "tiny.gguf"
    assert card["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert set(card["converted_by"]) == {"torch", "transformers", "gguf"}


def test_the_same_file_makes_the_same_bytes(converted: tuple[Path, Path], tmp_path: Path) -> None:
    again = gguf_folder(converted[0], tmp_path)
    first = {p.name: p.read_bytes() for p in converted[1].iterdir()}
    assert first == {p.name: p.read_bytes() for p in again.iterdir()}


def test_the_cache_goes_by_content(converted: tuple[Path, Path], tmp_path: Path) -> None:
    other = write_tiny_gguf(tmp_path / "tiny.gguf", seed=1)
    cache = converted[1].parent
    assert gguf_folder(other, cache) != converted[1] == gguf_folder(converted[0], cache)


@pytest.mark.parametrize("length", [4, 200, 5000, 20_000, -100])
def test_a_damaged_file_is_the_users_error(converted: tuple[Path, Path], tmp_path: Path, length: int) -> None:
    truncated = tmp_path / "cut.gguf"
    truncated.write_bytes(converted[0].read_bytes()[:length])
    with pytest.raises(UserError, match=r"cut\.gguf: this GGUF file cannot be converted"):
        gguf_folder(truncated, tmp_path / "cache")
