"""How many responses are made at a time, and what that follows from."""

from __future__ import annotations

import pytest
import torch
from tiny import tiny_backbone
from transformers import GPT2Config, Qwen3Config

from harken.data.chat import Renderer
from harken.models.backbone import Backbone
from harken.records import Message, Prompt
from harken.rollout import in_process
from harken.rollout.choose_decoder import open_decoder
from harken.rollout.decoder import Decoder
from harken.rollout.engine import Sampling
from harken.rollout.in_process import InProcessEngine
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


@pytest.mark.parametrize(
    ("memory", "expected"),
    [(None, MIN_SLOTS), (400, MIN_SLOTS), (128, MIN_SLOTS), (64, 16), (12, 3), (4, 1), (1, 1)],
)
def test_the_cache_takes_a_quarter_of_the_device_at_most(memory: int | None, expected: int) -> None:
    """S0-34: `memory` in units of one slot, whose cache alone is above the bound for 64 slots."""
    of_one = 2 * MAX_CACHE_BYTES
    assert slot_count(500, of_one, memory=None if memory is None else memory * of_one) == expected
    assert slot_count(2, of_one, memory=None if memory is None else memory * of_one) == min(2, expected)


def test_the_engine_knows_the_memory_of_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = tiny_backbone()
    engine = InProcessEngine(backbone, Renderer(backbone.tokenizer), None, 64)
    prompts = [Prompt(f"p{i}", (Message("user", f"Ask {i}"),)) for i in range(5)]
    opened: list[int] = []

    def noted(backbone: Backbone, slots: int, capacity: int) -> Decoder:
        opened.append(slots)
        return open_decoder(backbone, slots, capacity)

    monkeypatch.setattr(in_process, "open_decoder", noted)
    plain = engine.generate(prompts, Sampling(4, seed=1), "v", "test")
    tokens = max(len(rollout.prompt_tokens) for rollout in plain) + 4
    of_one = cache_bytes(backbone.config, tokens, torch.float32)
    monkeypatch.setattr(in_process, "device_memory", lambda device: 8 * of_one)
    few = engine.generate(prompts, Sampling(4, seed=1), "v", "test")
    assert opened == [5, 2]
    assert [rollout.response_tokens for rollout in few] == [rollout.response_tokens for rollout in plain]


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
