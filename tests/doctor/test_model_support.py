"""`harken model`: what works with a model, in the words of the stages themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from families import FAMILIES, Family, build
from tiny import save_tiny, tiny_tokenizer
from tiny_encoders import save_encoder

from harken.cli.main import main as harken


def folder_of(family: Family, folder: Path) -> str:
    build(family).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def asked(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert harken(["model", *arguments]) == 0
    return capsys.readouterr().out


def test_the_table_lists_supported_features(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = asked([save_tiny(tmp_path), "--dtype", "float32"], capsys).splitlines()
    table = {line[:24].strip(): line[24:] for line in lines[2:]}
    assert [table[name] for name in ("supervised fine-tuning", "reward model", "PPO", "evaluation")] == [
        "yes"
    ] * 4
    assert table["decoding"] == "yes  decode step"
    assert table["packing"] == "yes"
    assert table["adapter"].startswith("yes  on 14 of 14 modules: 2 down_proj")


def test_unsupported_features_have_a_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As the first stage says it: a recurrent state, and an encoder."""
    mamba = json.loads(asked([folder_of(FAMILIES["mamba"], tmp_path / "m"), "--json"], capsys))
    support = {one["name"]: one for one in mamba["support"]}
    assert not support["PPO"]["works"] and "recurrent state instead of a KV cache" in support["PPO"]["detail"]
    assert not support["decoding"]["works"]
    encoder = asked([save_encoder(tmp_path / "b")], capsys)
    lines = {line.split("  ")[0]: " ".join(line.split()) for line in encoder.splitlines()}
    assert "no an encoder cannot generate responses" in lines["supervised fine-tuning"]
    assert "no an encoder cannot generate responses" in lines["evaluation"]
    assert "yes an encoder, pooled at its first token; reads 132" in lines["reward model"]
    assert "yes on 12 of 12 modules: 6 dense, 2 key, 2 query" in lines["adapter"]


def test_experts_have_a_line_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = asked([folder_of(FAMILIES["qwen3_moe"], tmp_path)], capsys)
    assert "2 gate_up_proj (4 experts each)" in message.partition("with lora.experts")[2].partition(";")[0]


def test_brief_loads_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_tiny(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    (line,) = asked([folder, "--brief"], capsys).splitlines()
    assert "a full model" in line
    assert set(json.loads(asked([folder, "--brief", "--json"], capsys))) == {"models"}
