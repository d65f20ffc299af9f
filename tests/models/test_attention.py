"""Attention for short sequences against transformers' plain one, and when it is chosen."""

from __future__ import annotations

import torch
from tiny import tiny_backbone, tiny_tokenizer
from transformers import AutoModelForCausalLM, Gemma2Config, GPT2Config, MistralConfig, PretrainedConfig

from harken.models import attention
from harken.models.attention import _Attention
from harken.models.backbone import Backbone

SIZE = {"vocab_size": 300, "hidden_size": 16, "num_attention_heads": 4, "num_hidden_layers": 2}


def choice(config: PretrainedConfig) -> str:
    torch.manual_seed(0)
    return Backbone(AutoModelForCausalLM.from_config(config).float(), tiny_tokenizer())._short


def test_the_backward_is_the_derivative() -> None:
    """Six heads in two groups; the forward's softmax is float32, so steps are large and bounds are those of float32."""
    torch.manual_seed(0)
    query = torch.randn(2, 6, 4, 3).requires_grad_()
    key, value = (torch.randn(2, 2, 4, 3).requires_grad_() for _ in range(2))
    assert torch.autograd.gradcheck(
        lambda q, k, v: _Attention.apply(q, k, v, 0.6), (query, key, value), eps=1e-2, atol=3e-3, rtol=1e-2
    )


def test_it_is_transformers_plain_attention() -> None:
    """States and gradients of a model with grouped heads, in float32 up to the order of sums."""
    backbone = tiny_backbone()
    assert backbone._short == attention.NAME
    tokens = torch.arange(3, 43).view(2, 20)
    backbone.model.requires_grad_(True)
    found = {}
    for name in ("eager", attention.NAME):
        states = backbone.forward(name, input_ids=tokens, use_cache=False)
        (states[:, :-1] * states[:, 1:]).sum().backward()
        grads = {n: p.grad.clone() for n, p in backbone.model.named_parameters() if p.grad is not None}
        found[name] = states.detach(), grads
        backbone.model.zero_grad(set_to_none=True)
    torch.testing.assert_close(*(states for states, _ in found.values()), atol=2e-6, rtol=1e-5)
    for key, expected in found["eager"][1].items():
        error = (found[attention.NAME][1][key] - expected).norm()
        assert error <= 1e-5 * expected.norm(), key


def test_it_is_chosen_for_plain_causal_attention_alone() -> None:
    mistral = {"intermediate_size": 16, "num_key_value_heads": 2, **SIZE}
    assert choice(MistralConfig(sliding_window=None, **mistral)) == attention.NAME
    assert choice(MistralConfig(sliding_window=64, **mistral)) == "eager"
    # Capped scores that the probe's small ones would not show.
    capped = Gemma2Config(head_dim=4, query_pre_attn_scalar=4, layer_types=["full_attention"] * 2, **mistral)
    assert choice(capped) == "eager"
    gpt2 = GPT2Config(vocab_size=300, n_embd=16, n_layer=2, n_head=2, scale_attn_by_inverse_layer_idx=True)
    torch.manual_seed(0)
    backbone = Backbone(AutoModelForCausalLM.from_config(gpt2).float(), tiny_tokenizer())
    tokens = torch.arange(3, 43).view(2, 20)
    with torch.no_grad():
        torch.testing.assert_close(
            backbone.hidden_of(tokens, use_cache=False),
            backbone.forward("eager", input_ids=tokens),
            atol=1e-5,
            rtol=1e-5,
        )
