"""Adapters on mixture-of-experts models and on latent attention: what is covered, counted, merged and loaded again."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
import torch
from families import FAMILIES, build
from peft import PeftModel
from tiny import tiny_tokenizer
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from harken.config import LoraSettings
from harken.errors import UserError
from harken.models.backbone import Backbone
from harken.models.lora_targets import coverage
from harken.plan.shape import shape_of

EXPERTS = ("qwen3_moe", "mixtral", "gpt_oss", "deepseek_v3", "llama4_text", "granitemoe", "olmoe", "phimoe")
LATENT = ("deepseek_v2", "deepseek_v3", "minicpm3", "youtu")
TOKENS = torch.arange(40, 60)[None]


def adapted(name: str, settings: LoraSettings, adapter: str = "policy") -> Backbone:
    """A family's tiny model with an adapter that changes what it gives."""
    backbone = Backbone(build(FAMILIES[name]), tiny_tokenizer())
    backbone.add_adapter(adapter, settings, seed=0)
    disturb(backbone, adapter)
    return backbone


def disturb(backbone: Backbone, adapter: str) -> None:
    torch.manual_seed(sum(adapter.encode()))
    for parameter in backbone.adapter_parameters(adapter).values():
        nn.init.normal_(parameter.data, std=0.2)


@torch.no_grad()
def states(backbone: Backbone, adapter: str | None) -> Tensor:
    with backbone.role(adapter):
        return backbone.forward(input_ids=TOKENS, use_cache=False)


@pytest.mark.parametrize("experts", [False, True])
@pytest.mark.parametrize("name", EXPERTS)
def test_an_adapter_is_on_the_modules_of_its_settings(name: str, experts: bool) -> None:
    """peft takes `gate_proj` of some families to mean the experts, at twice the rank, if it is given that name."""
    backbone = adapted(name, LoraSettings(rank=2, experts=experts))
    message = coverage(backbone.trunk, "policy")
    fused = {
        what: count
        for what, count in (message.on if experts else message.off).items()
        if "experts each" in what
    }
    assert sorted(what.split()[0] for what in fused) == ["down_proj", "gate_up_proj"], str(message)
    assert not any("experts each" in what for what in (message.off if experts else message.on))
    assert not {"base_layer", "experts"} & {*message.on, *message.off}
    assert not {"gate_proj", "up_proj", "down_proj"} & {*message.off}, str(message)
    ranks = {p.shape[0] for key, p in backbone.adapter_parameters("policy").items() if "lora_A" in key}
    assert ranks == ({2, 8} if experts else {2})


@pytest.mark.parametrize(
    ("name", "experts"),
    [*((name, False) for name in sorted({*EXPERTS, *LATENT})), *((name, True) for name in sorted(EXPERTS))],
)
def test_the_plan_counts_the_adapter_that_is_made(name: str, experts: bool) -> None:
    settings = LoraSettings(rank=3, experts=experts)
    backbone = adapted(name, settings)
    base = sum(p.numel() for key, p in backbone.model.named_parameters() if "lora_" not in key)
    real = sum(p.numel() for p in backbone.adapter_parameters("policy").values())
    shape = shape_of(backbone.model.config, settings)
    assert shape.lora_parameters(3) == real
    assert shape.parameters == base


@pytest.mark.parametrize("name", EXPERTS)
def test_merged_experts_and_a_plain_load_give_what_the_adapter_gives(name: str, tmp_path: Path) -> None:
    backbone = adapted(name, LoraSettings(rank=2, experts=True))
    expected, base = states(backbone, "policy"), states(backbone, None)
    assert not torch.allclose(expected, base, atol=1e-3)
    build(FAMILIES[name]).save_pretrained(tmp_path / "base")
    backbone.save_adapter("policy", tmp_path / "adapter", tmp_path / "base")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    plain = PeftModel.from_pretrained(plain, tmp_path / "adapter").eval()
    with torch.no_grad():
        found = plain(input_ids=TOKENS, use_cache=False).logits
    with torch.no_grad():
        torch.testing.assert_close(backbone.head(expected[0]), found[0], atol=1e-4, rtol=1e-4)
    backbone.merge("policy")
    torch.testing.assert_close(states(backbone, None), expected, atol=1e-4, rtol=1e-4)


def test_roles_with_and_without_experts_stay_apart_and_train() -> None:
    """Experts of the policy alone, or of both: a role has its own experts, the base none, and gradients reach them."""
    backbone = adapted("qwen3_moe", LoraSettings(rank=2, experts=True))
    base, policy = states(backbone, None), states(backbone, "policy")
    backbone.add_adapter("reward", LoraSettings(rank=2), seed=1)
    disturb(backbone, "reward")
    backbone.add_adapter("critic", LoraSettings(rank=2, experts=True), seed=2)
    disturb(backbone, "critic")
    assert torch.equal(states(backbone, None), base)
    torch.testing.assert_close(states(backbone, "policy"), policy, atol=1e-6, rtol=1e-6)
    roles = {role: states(backbone, role) for role in (None, "policy", "reward", "critic")}
    for one, other in combinations(roles, 2):
        assert not torch.allclose(roles[one], roles[other]), (one, other)
    backbone.copy_adapter("policy", "reference", trainable=False)
    assert torch.equal(states(backbone, "reference"), states(backbone, "policy"))
    with backbone.role("policy"):
        backbone.forward(input_ids=TOKENS, use_cache=False).square().sum().backward()
    for key, parameter in backbone.adapter_parameters("policy").items():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, key
    assert all(parameter.grad is None for parameter in backbone.adapter_parameters("critic").values())


def test_adapters_of_experts_are_float32_on_a_bfloat16_base() -> None:
    backbone = Backbone(build(FAMILIES["qwen3_moe"]).to(torch.bfloat16), tiny_tokenizer())
    backbone.add_adapter("policy", LoraSettings(rank=2, experts=True), seed=0)
    assert {p.dtype for p in backbone.adapter_parameters("policy").values()} == {torch.float32}
    assert states(backbone, "policy").dtype == torch.bfloat16


def test_decoding_takes_the_adapted_experts() -> None:
    """The adapter is in force inside `decoding` as outside it."""
    backbone = adapted("qwen3_moe", LoraSettings(rank=2, experts=True))
    expected = states(backbone, "policy")
    with torch.no_grad(), backbone.role("policy"), backbone.decoding():
        found = backbone.forward(input_ids=TOKENS, use_cache=False)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("llama", LoraSettings(experts=True), "no experts in fused parameters"),
        (
            "deepseek_v3",
            LoraSettings(target_modules=["gate_proj"], dropout=0.1),
            "peft interprets gate_proj of this",
        ),
        ("deepseek_v3", LoraSettings(target_modules=["gate"]), "peft interprets gate of this model"),
    ],
)
def test_modules_that_peft_cannot_adapt_are_refused_in_one_line(
    name: str, settings: LoraSettings, words: str
) -> None:
    backbone = Backbone(build(FAMILIES[name]), tiny_tokenizer())
    with pytest.raises(UserError, match=words) as refused:
        backbone.add_adapter("policy", settings, seed=0)
    assert "\n" not in str(refused.value)


def test_experts_take_no_dropout() -> None:
    with pytest.raises(ValueError, match=r"without dropout\. Fix: set lora\.dropout: 0"):
        LoraSettings(experts=True, dropout=0.1)
