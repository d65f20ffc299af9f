"""The backbone: adapters switch on and off cleanly, gradients reach the adapter in force, saving loses nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from tiny import save_tiny, tiny_backbone, tiny_model
from transformers import AutoModelForCausalLM

from harken.batches import TokenBatch, collate
from harken.config import LoraSettings
from harken.models.backbone import Backbone
from harken.models.resolve import resolve


def batch_of(*rows: list[int]) -> TokenBatch:
    return collate(rows, [[False] * len(row) for row in rows], pad_token=0)


def nudge(backbone: Backbone, name: str, seed: int = 1) -> None:
    """Give an adapter an effect: its B starts at zero."""
    draw = torch.Generator().manual_seed(seed)
    for key, parameter in backbone.adapter_parameters(name).items():
        if "lora_B" in key:
            parameter.data = torch.randn(parameter.shape, generator=draw) * 0.1


def test_a_new_adapter_changes_nothing_until_it_is_trained() -> None:
    """S1-04: adapters off is the base; a zero B is the base too."""
    backbone, batch = tiny_backbone(), batch_of([5, 6, 7, 8])
    before = backbone.hidden(batch)
    backbone.add_adapter("policy", LoraSettings(rank=4), seed=0)
    with backbone.role("policy"):
        assert torch.equal(backbone.hidden(batch), before)


def test_roles_nest_and_restore() -> None:
    backbone, batch = tiny_backbone(), batch_of([5, 6, 7, 8])
    base = backbone.hidden(batch)
    for name, seed in (("policy", 1), ("reward", 2)):
        backbone.add_adapter(name, LoraSettings(rank=4), seed=seed)
        nudge(backbone, name, seed)
    with backbone.role("policy"):
        policy = backbone.hidden(batch)
        with backbone.role("reward"):
            reward = backbone.hidden(batch)
            with backbone.role(None):
                assert torch.equal(backbone.hidden(batch), base)
        assert torch.equal(backbone.hidden(batch), policy)
    assert torch.equal(backbone.hidden(batch), base)
    assert not torch.allclose(policy, base)
    assert not torch.allclose(policy, reward)


def test_a_role_scope_gives_the_adapter_its_gradient_and_only_it() -> None:
    """DESIGN's measured trap: switching adapters must not freeze the one that trains."""
    backbone, batch = tiny_backbone(), batch_of([5, 6, 7, 8])
    backbone.add_adapter("reward", LoraSettings(rank=4), seed=1)
    for parameter in backbone.adapter_parameters("reward").values():
        parameter.requires_grad_(False)
    backbone.add_adapter("policy", LoraSettings(rank=4), seed=1)
    with backbone.role("policy"):
        with backbone.role("reward"):
            backbone.hidden(batch)
        backbone.hidden(batch).square().sum().backward()
    gradients = {k: p.grad for k, p in backbone.adapter_parameters("policy").items() if "lora_B" in k}
    assert gradients
    assert all(g is not None and g.abs().sum() > 0 for g in gradients.values())
    others = [p for k, p in backbone.model.named_parameters() if ".policy." not in k]
    assert all(p.grad is None and not p.requires_grad for p in others)


def test_an_adapter_stays_trainable_when_another_is_added() -> None:
    """A policy and a critic may train side by side on one base."""
    backbone = tiny_backbone()
    for name in ("policy", "critic"):
        backbone.add_adapter(name, LoraSettings(rank=4), seed=1)
    assert all(p.requires_grad for n in ("policy", "critic") for p in backbone.adapter_parameters(n).values())


def test_a_copied_adapter_is_equal_and_apart() -> None:
    """The copy says what the original says, and changing one leaves the other."""
    backbone, batch = tiny_backbone(), batch_of([5, 6, 7, 8])
    backbone.add_adapter("policy", LoraSettings(rank=4), seed=1)
    with torch.no_grad():
        for parameter in backbone.adapter_parameters("policy").values():
            parameter.add_(0.05)
    backbone.copy_adapter("policy", "reference", trainable=False)

    def said(role: str) -> torch.Tensor:
        with torch.no_grad(), backbone.role(role):
            return backbone.hidden(batch)

    assert torch.equal(said("policy"), said("reference"))
    before = said("reference")
    with torch.no_grad():
        for parameter in backbone.adapter_parameters("policy").values():
            parameter.add_(0.05)
    assert torch.equal(said("reference"), before)
    assert not torch.equal(said("policy"), before)
    assert not any(p.requires_grad for p in backbone.adapter_parameters("reference").values())
    assert all(p.requires_grad for p in backbone.adapter_parameters("policy").values())


def test_adapter_parameters_are_float32_on_a_bfloat16_base() -> None:
    model = tiny_model().to(torch.bfloat16)
    backbone = Backbone(model, tiny_backbone().tokenizer)
    backbone.add_adapter("policy", LoraSettings(rank=4), seed=0)
    assert {p.dtype for p in backbone.adapter_parameters("policy").values()} == {torch.float32}
    assert backbone.dtype == torch.bfloat16


def test_default_targets_are_the_seven_projections() -> None:
    """S0-19."""
    backbone = tiny_backbone()
    backbone.add_adapter("policy", LoraSettings(rank=4), seed=0)
    modules = {key.split(".lora_")[0].rsplit(".", 1)[-1] for key in backbone.adapter_parameters("policy")}
    assert modules == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def test_an_adapter_depends_on_its_seed_alone() -> None:
    def first(seed: int, disturb: int) -> torch.Tensor:
        backbone = tiny_backbone()
        torch.manual_seed(disturb)
        backbone.add_adapter("policy", LoraSettings(rank=4), seed=seed)
        return next(iter(backbone.adapter_parameters("policy").values())).detach()

    assert torch.equal(first(3, disturb=1), first(3, disturb=2))
    assert not torch.equal(first(3, disturb=1), first(4, disturb=1))


def test_right_padding_and_batch_mates_do_not_matter() -> None:
    """P3, P13 for training batches: no mask is passed, causality alone keeps padding out."""
    backbone = tiny_backbone()
    alone = backbone.hidden(batch_of([5, 6, 7]))[0]
    padded = backbone.hidden(batch_of([5, 6, 7], [9, 10, 11, 12, 13, 14, 15]))[0, :3]
    torch.testing.assert_close(alone, padded, atol=2e-6, rtol=1e-5)


def test_merging_equals_the_adapter(tmp_path: Path) -> None:
    backbone, batch = tiny_backbone(), batch_of([5, 6, 7, 8])
    backbone.add_adapter("policy", LoraSettings(rank=4), seed=0)
    nudge(backbone, "policy")
    with backbone.role("policy"):
        before = backbone.hidden(batch)
    backbone.merge("policy")
    assert torch.allclose(backbone.hidden(batch), before, atol=1e-5)
    backbone.save_model(tmp_path / "whole")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "whole", dtype=torch.float32)
    assert torch.allclose(again.model(batch.tokens).last_hidden_state, before, atol=1e-5)


def test_a_whole_model_is_not_saved_while_adapters_are_live(tmp_path: Path) -> None:
    backbone = tiny_backbone()
    backbone.add_adapter("policy", LoraSettings(rank=4), seed=0)
    with pytest.raises(ValueError, match="merge"):
        backbone.save_model(tmp_path)


def test_a_saved_adapter_opens_with_peft_with_transformers_and_with_harken(tmp_path: Path) -> None:
    """S1-20, S1-22: final is loadable by from_pretrained, and a run can start from it."""
    base = save_tiny(tmp_path / "base")
    backbone = Backbone.load(resolve(base), torch.float32, "cpu")
    backbone.add_adapter("policy", LoraSettings(rank=4), seed=0)
    nudge(backbone, "policy")
    batch = batch_of([5, 6, 7, 8])
    with backbone.role("policy"):
        expected = backbone.hidden(batch)
    final = tmp_path / "run" / "final"
    backbone.save_adapter("policy", final, Path(base))

    by_peft = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), final)
    assert torch.allclose(by_peft.model.model(batch.tokens).last_hidden_state, expected, atol=1e-5)
    by_transformers = AutoModelForCausalLM.from_pretrained(final)
    assert torch.allclose(by_transformers.model(batch.tokens).last_hidden_state, expected, atol=1e-5)
    merged = Backbone.load(resolve(str(final)), torch.float32, "cpu")
    assert torch.allclose(merged.hidden(batch), expected, atol=1e-5)
    live = Backbone.load(resolve(base), torch.float32, "cpu")
    live.load_adapter("policy", final)
    with live.role("policy"):
        assert torch.equal(live.hidden(batch), expected)
    assert not any(p.requires_grad for p in live.adapter_parameters("policy").values())


def test_loading_a_frozen_adapter_leaves_the_trainable_one_trainable(tmp_path: Path) -> None:
    backbone = tiny_backbone()
    backbone.add_adapter("reward", LoraSettings(rank=4), seed=0)
    backbone.save_adapter("reward", tmp_path, tmp_path)
    backbone = tiny_backbone()
    backbone.add_adapter("policy", LoraSettings(rank=4), seed=0)
    backbone.load_adapter("reward", tmp_path)
    assert all(p.requires_grad for p in backbone.adapter_parameters("policy").values())
    assert not any(p.requires_grad for p in backbone.adapter_parameters("reward").values())


def test_only_the_adapters_dropout_is_switched_on() -> None:
    """P12, P33: a base that brings dropout of its own stays in evaluation mode while an adapter trains."""
    backbone, batch = tiny_backbone(), batch_of([5, 6, 7, 8])
    for layer in backbone.model.model.layers:
        layer.self_attn.attention_dropout = 0.9
    backbone.add_adapter("policy", LoraSettings(rank=4), seed=0)
    backbone.set_adapter_dropout(True)
    with backbone.role("policy"):
        assert torch.equal(backbone.hidden(batch), backbone.hidden(batch))
    backbone.set_adapter_dropout(False)
    noisy = tiny_backbone()
    noisy.add_adapter("policy", LoraSettings(rank=4, dropout=0.5), seed=0)
    nudge(noisy, "policy")
    noisy.set_adapter_dropout(True)
    with noisy.role("policy"):
        assert not torch.equal(noisy.hidden(batch), noisy.hidden(batch))
        noisy.set_adapter_dropout(False)
        assert torch.equal(noisy.hidden(batch), noisy.hidden(batch))


def test_rotary_frequencies_stay_float32(tmp_path: Path) -> None:
    """Merging casts parameters alone: rounded frequencies would be another model than from_pretrained gives."""
    base = save_tiny(tmp_path / "base")
    backbone = Backbone.load(resolve(base), torch.bfloat16, "cpu")
    backbone.add_adapter("policy", LoraSettings(rank=4), seed=0)
    backbone.save_adapter("policy", tmp_path / "adapter", Path(base))
    backbone.merge("policy")
    merged = Backbone.load(resolve(str(tmp_path / "adapter")), torch.bfloat16, "cpu")
    for one in (backbone, merged):
        assert one.dtype == torch.bfloat16
        assert {b.dtype for b in one.model.buffers()} == {torch.float32}
