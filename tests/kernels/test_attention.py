"""Attention over packed rows against transformers' plain one, and when it is chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny import tiny_backbone, tiny_tokenizer
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
)

from harken.batches import collate
from harken.kernels import attention, packing
from harken.kernels.attention import _Attention
from harken.kernels.packing import pack_rows
from harken.models.backbone import Backbone

SIZE = {"vocab_size": 300, "hidden_size": 16, "num_attention_heads": 4, "num_hidden_layers": 2}
BEGINNING = list(range(3, 15))
ROWS = [
    [*BEGINNING, *range(20, 30)],
    [*BEGINNING, *range(40, 44)],
    [*BEGINNING, *range(20, 29), 50, 51],
    list(range(60, 67)),
    BEGINNING,
]


def chosen(config: PretrainedConfig) -> bool:
    torch.manual_seed(0)
    return Backbone(AutoModelForCausalLM.from_config(config).float(), tiny_tokenizer()).packs


def test_the_backward_is_the_derivative() -> None:
    """Six heads in two groups; the forward's softmax is float32, so steps are large and bounds are those of float32."""
    torch.manual_seed(0)
    layout = pack_rows([[1] * 8 + [2, 3], [1] * 8 + [4]])
    assert layout.segments is not None and len(layout.segments) == 3
    query = torch.randn(1, 6, 11, 3).requires_grad_()
    key, value = (torch.randn(1, 2, 11, 3).requires_grad_() for _ in range(2))
    assert torch.autograd.gradcheck(
        lambda q, k, v: _Attention.apply(q, k, v, layout.segment_batches(6, 2), 0.6),
        (query, key, value),
        eps=1e-2,
        atol=3e-3,
        rtol=1e-2,
    )


def states_and_gradients(backbone: Backbone, states: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Of a loss in which every token's state matters otherwise."""
    weight = torch.linspace(-1, 2, states.numel()).view_as(states)
    (states * weight).sum().backward()
    grads = {n: p.grad.clone() for n, p in backbone.model.named_parameters() if p.grad is not None}
    backbone.model.zero_grad(set_to_none=True)
    return states.detach(), grads


@pytest.mark.parametrize("kept", [256, 14])
def test_packed_rows_are_transformers_plain_attention_of_each_row(
    monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    """States and gradients of a model with grouped heads, in float32 up to the order of sums; segments cut small,
    weights kept for all of them or for those that see little."""
    monkeypatch.setattr(packing, "MAX_SEGMENT_LENGTH", 7)
    monkeypatch.setattr(attention, "MAX_SAVED_KEYS", kept)
    backbone = tiny_backbone()
    assert backbone.packs
    backbone.model.requires_grad_(True)
    batch = collate(ROWS, [[True] * len(row) for row in ROWS], 0)
    ours = states_and_gradients(backbone, backbone.hidden(batch)[batch.attention_mask])
    alone = [backbone.forward("eager", input_ids=torch.tensor([row]), use_cache=False)[0] for row in ROWS]
    theirs = states_and_gradients(backbone, torch.cat(alone))
    torch.testing.assert_close(ours[0], theirs[0], atol=2e-6, rtol=1e-5)
    assert ours[1].keys() == theirs[1].keys()
    for key, expected in theirs[1].items():
        assert (ours[1][key] - expected).norm() <= 1e-5 * expected.norm(), key


@pytest.mark.parametrize("packed_gives", [lambda places: torch.ones(1, places, 4), None])
def test_it_is_not_used_unchecked(packed_gives: Callable[[int], Tensor] | None) -> None:
    """A family that does something of its own in its layers, or that hands nothing on to them."""

    def forward(kernel: str, **inputs: Any) -> Tensor:
        places = inputs["input_ids"].shape[1]
        if kernel == "eager":
            return torch.full((1, places, 4), 2.0)
        if packed_gives is None:
            raise TypeError("forward() got an unexpected keyword argument 'layout'")
        return packed_gives(places)

    config = MistralConfig(sliding_window=None, **SIZE)
    assert not attention.is_packing_equivalent(forward, config, torch.float32)
    assert attention.is_packing_equivalent(
        lambda kernel, **inputs: forward("eager", **inputs), config, torch.float32
    )


def test_it_is_chosen_for_plain_causal_attention_alone() -> None:
    mistral = {"intermediate_size": 16, "num_key_value_heads": 2, **SIZE}
    assert chosen(MistralConfig(sliding_window=None, **mistral))
    assert not chosen(MistralConfig(sliding_window=64, **mistral))
    # Capped scores that the probe's small ones would not show.
    assert not chosen(
        Gemma2Config(head_dim=4, query_pre_attn_scalar=4, layer_types=["full_attention"] * 2, **mistral)
    )
    gpt2 = GPT2Config(vocab_size=300, n_embd=16, n_layer=2, n_head=2, scale_attn_by_inverse_layer_idx=True)
    torch.manual_seed(0)
    backbone = Backbone(AutoModelForCausalLM.from_config(gpt2).float(), tiny_tokenizer())
    batch = collate(ROWS, [[True] * len(row) for row in ROWS], 0)
    with torch.no_grad():
        own = backbone.forward("eager", input_ids=batch.tokens)
        torch.testing.assert_close(
            backbone.hidden(batch)[batch.attention_mask], own[batch.attention_mask], atol=1e-5, rtol=1e-5
        )


def test_full_attention_is_told_by_the_configuration() -> None:
    """Windows and caps each make a model stand aside, before any probe is run."""
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    assert attention.is_full_attention(LlamaConfig(**sizes))
    assert not attention.is_full_attention(MistralConfig(**sizes, sliding_window=8))
    assert not attention.is_full_attention(LlamaConfig(**sizes, attn_logit_softcapping=30.0))
