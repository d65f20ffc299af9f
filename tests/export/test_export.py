"""An exported policy gives the same logits in transformers, peft and from a GGUF file; its card says what is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import yaml
from peft import AutoPeftModelForCausalLM, PeftModel
from tiny import CHATML, bpe_tokenizer, save_tiny, tiny_model
from tiny_gguf import interleaved
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from harken.cli.main import main
from harken.config import LoraSettings
from harken.errors import UserError
from harken.export.export import export
from harken.export.gguf_file import gguf_name, interleave_heads, require_llama
from harken.models.backbone import Backbone
from harken.models.gguf import gguf_folder
from harken.models.resolve import resolve
from harken.run import checksums, manifest
from harken.run.folder import RunFolder

TOKENS = torch.tensor([[1, 40, 41, 42, 7, 99, 100]])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "tiny"
    tiny_model(hidden=16).save_pretrained(folder)
    bpe_tokenizer(digits=True).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def run(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run whose final/ is an adapter that changes the logits."""
    folder = RunFolder(tmp_path_factory.mktemp("run") / "03_ppo")
    source = resolve(str(base))
    backbone = Backbone.load(source, torch.float32, "cpu")
    backbone.add_adapter("policy", LoraSettings(rank=4), seed=0)
    draw = torch.Generator().manual_seed(0)
    for name, parameter in backbone.adapter_parameters("policy").items():
        if "lora_B" in name:
            parameter.data = 0.2 * torch.randn(parameter.shape, generator=draw)
    backbone.save_adapter("policy", folder.final, base)
    settings = {"training": {"type": "ppo"}, "model_name": str(base)}
    folder.config.write_text(yaml.safe_dump(settings))
    lineage = {
        "model": str(base), "folder": str(base), "fingerprint": source.lineage_fingerprint,
        "data": {"name": "prompts.jsonl", "fingerprint": "d" * 64},
        "reward_model": {"name": "outputs/02_rm", "fingerprint": "r" * 64},
    }  # fmt: skip
    manifest.write_manifest(folder, settings, lineage, {})
    folder.metrics.write_text('{"step": 1, "eval/reward_mean": 0.25}\n{"step": 2, "reward/mean": 0.5}\n')
    folder.data_report.write_text(json.dumps([{"path": "prompts.jsonl", "raw": 12, "kept": 10}]))
    return folder.root


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = model.eval()(TOKENS).logits.float()
    return found


@pytest.fixture(scope="module")
def expected(base: Path, run: Path) -> Tensor:
    """Of peft, with the adapter beside the weights, not merged."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    found = logits(PeftModel.from_pretrained(model, run / "final"))
    assert (found - logits(tiny_model(hidden=16))).abs().max() > 0.1  # the adapter acts
    return found


def test_plain_transformers_loads_the_merged_model(run: Path, expected: Tensor, tmp_path: Path) -> None:
    folder = export(str(run), tmp_path / "whole", "safetensors", "float32")
    merged = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    torch.testing.assert_close(logits(merged), expected, atol=1e-5, rtol=1e-5)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer("cab 12")["input_ids"] == bpe_tokenizer(digits=True)("cab 12")["input_ids"]
    assert checksums.read_checksums(folder) is not None and not checksums.verify_folder(folder)
    assert not list(tmp_path.glob(".*"))
    # In bfloat16: added in float32, rounded once.
    rounded = AutoModelForCausalLM.from_pretrained(
        export(str(run), tmp_path / "half", "safetensors"), dtype="auto"
    )
    for name, parameter in rounded.state_dict().items():
        assert torch.equal(parameter, merged.state_dict()[name].to(torch.bfloat16))


def test_peft_loads_the_adapter(run: Path, base: Path, expected: Tensor, tmp_path: Path) -> None:
    folder = export(str(run), tmp_path / "adapter", "adapter")
    model = AutoPeftModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    torch.testing.assert_close(logits(model), expected, atol=1e-6, rtol=1e-6)
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == str(base)
    assert AutoTokenizer.from_pretrained(folder).chat_template == CHATML
    with pytest.raises(UserError, match="has no adapter to export"):
        export(str(base), tmp_path / "none", "adapter")


def test_the_gguf_file_is_read_back_as_the_same_model(run: Path, tmp_path: Path) -> None:
    """Bit for bit in bfloat16: the reader dequantises in float32 and rounds to bfloat16."""
    path = export(str(run), tmp_path / "file", "gguf") / "model.gguf"
    half = AutoModelForCausalLM.from_pretrained(
        export(str(run), tmp_path / "half", "safetensors"), dtype="auto"
    )
    folder = gguf_folder(path, tmp_path / "cache")
    back = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    assert back.state_dict().keys() == half.state_dict().keys()
    for name, parameter in half.state_dict().items():
        assert torch.equal(back.state_dict()[name], parameter), name
    assert torch.equal(logits(back), logits(half))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ours = bpe_tokenizer(digits=True)
    assert (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.chat_template) == (2, 1, CHATML)
    assert tokenizer("a cab")["input_ids"] == ours("a cab")["input_ids"]


def test_the_gguf_files_tensors_and_metadata(run: Path, tmp_path: Path) -> None:
    """As the `gguf` package alone reads them, against the exported float32 model."""
    reader = gguf.GGUFReader(str(export(str(run), tmp_path / "file", "gguf", "float32") / "model.gguf"))
    whole = AutoModelForCausalLM.from_pretrained(
        export(str(run), tmp_path / "whole", "safetensors", "float32")
    )
    tensors = {tensor.name: np.asarray(tensor.data) for tensor in reader.tensors}
    state = {
        name: parameter.numpy() for name, parameter in whole.state_dict().items() if "lm_head" not in name
    }
    assert set(tensors) == {gguf_name(name) for name in state}
    for name, weight in state.items():
        heads = 4 if "q_proj" in name else 2 if "k_proj" in name else 0
        assert np.array_equal(tensors[gguf_name(name)], interleaved(weight, heads) if heads else weight)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert fields["tokenizer.ggml.pre"] == "smollm" and fields["llama.attention.head_count_kv"] == 2
    kinds = fields["tokenizer.ggml.token_type"]
    assert kinds[:4] == [3, 3, 3, 1] and fields["tokenizer.ggml.merges"] == ["a b"]
    assert fields["tokenizer.ggml.add_bos_token"] is False


def test_interleaving_keeps_rotary_attention() -> None:
    """Rotating the two halves of a head (transformers) is rotating neighbours (GGUF's llama) of the reordered rows.

    In heads of four rows the order is its own inverse, so these have six.
    """
    torch.manual_seed(0)
    weight, x, heads, size = torch.randn(12, 5).double(), torch.randn(5).double(), 2, 6
    angles = torch.tensor([0.3, 1.1, 2.0], dtype=torch.float64)
    half = (weight @ x).reshape(heads, 2, size // 2)
    rotated = torch.stack(
        [
            half[:, 0] * angles.cos() - half[:, 1] * angles.sin(),
            half[:, 1] * angles.cos() + half[:, 0] * angles.sin(),
        ],
        1,
    )
    near = (interleave_heads(weight, heads) @ x).reshape(heads, size // 2, 2)
    turned = torch.view_as_real(
        torch.view_as_complex(near.contiguous()) * torch.polar(torch.ones(3).double(), angles)
    )
    torch.testing.assert_close(turned.transpose(1, 2), rotated)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, "rotary positions"),
        ({"attention_bias": True}, "biases"),
        ({"head_dim": 32}, "heads of another size"),
    ],
)
def test_other_architectures_name_the_tool_that_converts_them(changes: dict[str, Any], problem: str) -> None:
    settings: dict[str, Any] = {"hidden_size": 16, "num_attention_heads": 4, **changes}
    with pytest.raises(UserError, match=rf"{problem}.*convert_hf_to_gguf\.py"):
        require_llama(LlamaConfig(**settings), "x")


def test_other_tokenizers_are_refused_and_nothing_is_left(tmp_path: Path) -> None:
    save_tiny(tmp_path / "tiny", hidden=16)  # its tokenizer has no merges
    with pytest.raises(UserError, match=r"this tokenizer.*convert_hf_to_gguf\.py"):
        export(str(tmp_path / "tiny"), tmp_path / "out", "gguf")
    assert not (tmp_path / "out").exists()


def test_the_card_says_what_is_known_and_that_the_rest_is_not(run: Path, base: Path, tmp_path: Path) -> None:
    text = (export(str(run), tmp_path / "out", "safetensors") / "README.md").read_text()
    front = yaml.safe_load(text.split("---")[1])
    assert front["license"] == "unknown" and front["base_model"] == str(base)
    assert front["tags"] == ["harken", "ppo"]
    for known in (
        resolve(str(run)).fingerprint, resolve(str(base)).fingerprint, "outputs/02_rm", "r" * 64, "d" * 64,
        "prompts.jsonl: 10 of 12 rows", "| eval/reward_mean | 0.25 |", "data prompts.jsonl: unknown",
    ):  # fmt: skip
        assert known in text, known
    assert f"starting model {base}: unknown" in text


def test_a_licence_is_copied_from_the_starting_models_card(tmp_path: Path) -> None:
    save_tiny(tmp_path / "tiny", hidden=16)
    (tmp_path / "tiny" / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Tiny\n")
    text = (export(str(tmp_path / "tiny"), tmp_path / "out", "safetensors") / "README.md").read_text()
    assert f"starting model {tmp_path / 'tiny'}: apache-2.0" in text
    assert "unknown: no training run is recorded" in text
    assert main(["export", str(tmp_path / "tiny"), "--out", str(tmp_path / "out")]) == 2
