"""How many responses are made at a time, and what that follows from."""

from __future__ import annotations

import pytest
import torch
from tiny import tiny_backbone
from transformers import GPT2Config, Qwen3Config

from harken.rollout.decoder import Decoder
from harken.rollout.slots import MAX_CACHE_BYTES, MAX_SLOTS, MIN_SLOTS, cache_bytes, slot_count


@pytest.mark.parametrize(
    ("responses", "of_one", "expected"),
    [
        (500, 1, MAX_SLOTS),
        (7, 1, 7),
        (500, MAX_CACHE_BYTES // 50, 50),
        (40, MAX_CACHE_BYTES // 50, 40),
        (500, MAX_CACHE_BYTES // 3, MIN_SLOTS),
        (500, 2 * MAX_CACHE_BYTES, MIN_SLOTS),
        (5, 2 * MAX_CACHE_BYTES, 5),
    ],
)
def test_memory_takes_from_64_down_to_32(responses: int, of_one: float, expected: int) -> None:
    assert slot_count(responses, of_one) == expected


def test_a_caller_may_want_fewer_or_more() -> None:
    assert (slot_count(500, 1, 4), slot_count(500, 1, 200), slot_count(500, MAX_CACHE_BYTES, 4)) == (
        4,
        200,
        4,
    )


def test_bytes_are_those_of_a_cache() -> None:
    backbone = tiny_backbone()
    decoder = Decoder(backbone, 1, 32)
    with torch.no_grad():
        decoder.prefill([list(range(3, 35))], [1])
    held = sum(t.numel() * t.element_size() for t in (*decoder.cache.keys, *decoder.cache.values))
    assert cache_bytes(backbone.model.config, 32, torch.float32) == held


def test_families_name_their_heads_in_several_ways() -> None:
    gpt2 = GPT2Config(n_layer=3, n_head=4, n_embd=32)
    wide = Qwen3Config(
        num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, hidden_size=32, head_dim=16
    )
    assert cache_bytes(gpt2, 10, torch.bfloat16) == 2 * 3 * 10 * 32 * 2
    assert cache_bytes(wide, 10, torch.bfloat16) == 2 * 3 * 10 * 2 * 16 * 2
