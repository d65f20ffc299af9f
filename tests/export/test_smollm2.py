"""A policy on SmolLM2, exported by the command: other programs say the same, with the same log-probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM, AutoTokenizer

import harken
from harken.cli.main import main
from harken.config import LoraSettings
from harken.models.backbone import Backbone
from harken.models.resolve import resolve
from harken.run.folder import RunFolder

pytestmark = pytest.mark.nightly
PROMPTS = ["Explain rainbows in one sentence.", "What is 2 + 2?"]
TOKENS = 12
NATS = 1e-4


@pytest.fixture(scope="module")
def policy(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter on SmolLM2 that changes what it says."""
    run = RunFolder(tmp_path_factory.mktemp("run"))
    backbone = Backbone.load(resolve("embedded"), torch.float32, "cpu")
    backbone.add_adapter("policy", LoraSettings(rank=4), seed=0)
    draw = torch.Generator().manual_seed(0)
    for name, parameter in backbone.adapter_parameters("policy").items():
        if "lora_B" in name:
            parameter.data = 0.02 * torch.randn(parameter.shape, generator=draw)
    backbone.save_adapter("policy", run.final, smollm2)
    return run.root


def harkens(model: Path, dtype: Any = "float32") -> tuple[list[str], list[NDArray[np.float32]]]:
    """Greedy responses, and the log-probabilities of the tokens that were sampled."""
    rollouts = harken.load_policy(model, dtype=dtype, device="cpu").rollouts(
        PROMPTS, max_gen_len=TOKENS, temperature=0
    )
    return [r.text for r in rollouts], [np.array(r.sampler_logprobs, dtype=np.float32) for r in rollouts]


def others(model: Any, folder: Path) -> tuple[list[str], list[NDArray[np.float32]]]:
    """The same by the other program's own generate and forward, with the tokenizer of the exported folder."""
    tokenizer, texts, logprobs = AutoTokenizer.from_pretrained(folder), [], []
    for prompt in PROMPTS:
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )["input_ids"]
        with torch.no_grad():
            whole = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=TOKENS, do_sample=False,
                repetition_penalty=1.0, pad_token_id=tokenizer.pad_token_id,
            )  # fmt: skip
            logp = torch.log_softmax(model(whole).logits[0, :-1].double(), -1)
        new = whole[0, ids.shape[1] :]
        chosen = logp[ids.shape[1] - 1 :].gather(-1, new[:, None])[:, 0]
        texts.append(tokenizer.decode(new, skip_special_tokens=True))
        logprobs.append(chosen.float().numpy())
    return texts, logprobs


def assert_equal(
    ours: tuple[list[str], list[NDArray[np.float32]]], theirs: tuple[list[str], list[NDArray[np.float32]]]
) -> None:
    assert ours[0] == theirs[0]
    for one, other in zip(ours[1], theirs[1], strict=True):
        assert one.shape == other.shape and np.abs(one - other).max() < NATS


def test_plain_transformers_says_the_same(policy: Path, tmp_path: Path) -> None:
    folder = tmp_path / "merged"
    assert main(["export", str(policy), "--out", str(folder), "--dtype", "float32"]) == 0
    merged = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ours = harkens(policy)
    assert_equal(ours, others(merged, folder))
    base = harkens(Path("embedded"))
    assert ours[0] != base[0]  # the adapter acts


def test_plain_peft_says_the_same(policy: Path, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    assert main(["export", str(policy), "--out", str(folder), "--format", "adapter"]) == 0
    model = AutoPeftModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    assert_equal(harkens(policy), others(model, folder))


def test_gguf_is_read_by_its_package_and_by_harken(policy: Path, tmp_path: Path) -> None:
    """Its matrices are the bfloat16 ones of the merged model; harken opens the file as a policy that says the same."""
    file, half = tmp_path / "gguf" / "model.gguf", tmp_path / "half"
    assert main(["export", str(policy), "--out", str(file.parent), "--format", "gguf"]) == 0
    assert main(["export", str(policy), "--out", str(half)]) == 0
    reader = gguf.GGUFReader(str(file))
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    state = AutoModelForCausalLM.from_pretrained(half, dtype="auto").state_dict()
    for name, key in {
        "token_embd.weight": "model.embed_tokens.weight",
        "blk.7.ffn_down.weight": "model.layers.7.mlp.down_proj.weight",
        "output_norm.weight": "model.norm.weight",
    }.items():
        found = gguf.quants.dequantize(tensors[name].data, tensors[name].tensor_type)
        assert np.array_equal(found, state[key].float().numpy()), name
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert fields["general.architecture"] == "llama" and fields["tokenizer.ggml.pre"] == "gpt-2"
    assert len(fields["tokenizer.ggml.tokens"]) == len(AutoTokenizer.from_pretrained(half))
    assert fields["tokenizer.chat_template"] == AutoTokenizer.from_pretrained(half).chat_template
    assert_equal(harkens(file), harkens(half))
    assert "llama-cli -m model.gguf" in (file.parent / "README.md").read_text()
