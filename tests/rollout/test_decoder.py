"""The decoder on models whose layers see a window, and what it refuses. Plain models: see the engine's tests."""

from __future__ import annotations

import pytest
import torch
from tiny import PAD, tiny_tokenizer
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    MistralConfig,
    PretrainedConfig,
    Qwen2Config,
)

from harken.models.backbone import Backbone
from harken.rollout.attention import decode_attention
from harken.rollout.decoder import Decoder

SIZE = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
    "pad_token_id": PAD,
}
MIXED = ["full_attention", "sliding_attention"] * 2


@pytest.mark.parametrize(
    "config",
    [
        MistralConfig(sliding_window=6, **SIZE),
        Qwen2Config(use_sliding_window=True, sliding_window=6, layer_types=MIXED, **SIZE),
        Gemma2Config(
            sliding_window=6, head_dim=8, attn_logit_softcapping=3.0, query_pre_attn_scalar=8, **SIZE
        ),
    ],
    ids=["all layers", "every second", "with capped scores"],
)
def test_layers_that_see_a_window(config: PretrainedConfig) -> None:
    """The trunk's states are those of a forward over everything, past the window and with unequal neighbours."""
    torch.manual_seed(0)
    backbone = Backbone(AutoModelForCausalLM.from_config(config).float(), tiny_tokenizer())
    rows = [list(range(10, 22)), list(range(40, 44)), list(range(60, 69))]
    decoder = Decoder(backbone, 3, 24)
    with torch.no_grad():
        decoder.prefill(rows, [1, 1, 1])
        for step in range(9):
            for row, tokens in enumerate(rows):
                exact = backbone.trunk(input_ids=torch.tensor([tokens])).last_hidden_state[0, -1]
                torch.testing.assert_close(decoder.last_states[row], exact, atol=2e-5, rtol=1e-4)
            new = [100 + 3 * step + row for row in range(3)]
            decoder.append(torch.tensor(new))
            rows = [[*tokens, token] for tokens, token in zip(rows, new, strict=True)]


@pytest.mark.parametrize("scaling", [None, 0.4])
def test_attention_is_its_definition(scaling: float | None) -> None:
    """Head h of 6 reads group h // 3 of 2; hidden places get no weight, whatever stands there."""
    torch.manual_seed(0)
    query, keys, values = torch.randn(2, 6, 1, 8), torch.randn(2, 2, 5, 8), torch.randn(2, 2, 5, 8)
    mask = torch.zeros(2, 1, 1, 5)
    mask[1, ..., 3:] = -torch.inf
    seen, none = decode_attention(torch.nn.Identity(), query, keys, values, mask, scaling=scaling)
    assert none is None
    for row, length in ((0, 5), (1, 3)):
        for head in range(6):
            k, v = keys[row, head // 3, :length].double(), values[row, head // 3, :length].double()
            weights = ((k @ query[row, head, 0].double()) * (scaling or 8**-0.5)).exp()
            expected = (weights / weights.sum()) @ v
            torch.testing.assert_close(seen[row, 0, head].double(), expected, atol=1e-6, rtol=1e-5)


def test_samples_share_the_reading_of_their_prompt() -> None:
    torch.manual_seed(0)
    backbone = Backbone(AutoModelForCausalLM.from_config(MistralConfig(**SIZE)).float(), tiny_tokenizer())
    read: list[int] = []
    backbone.trunk.register_forward_pre_hook(
        lambda module, arguments, keys: read.append(keys["input_ids"].numel()), with_kwargs=True
    )
    decoder = Decoder(backbone, 5, 8)
    with torch.no_grad():
        decoder.prefill([[5, 6, 7], [8, 9]], [4, 1])
    assert read == [6]
    assert decoder.lengths == [3, 3, 3, 3, 2]
    assert torch.equal(decoder.last_states[0], decoder.last_states[3])
    assert not torch.equal(decoder.last_states[0], decoder.last_states[4])
