"""The cache of slots against the plainest one: a list of tensors a row."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from harken.rollout.kv_cache import DecodeOneToken, KVCache, Prefill

LAYERS, HEADS, FEATURES, CAPACITY = 2, 2, 4, 8


def whole(tokens: int, rows: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    keys, values = torch.randn(2, rows, HEADS, tokens, FEATURES)
    return keys, values


@pytest.mark.parametrize("trimmed", [True, False])
def test_slots_hold_the_keys_of_their_rows(trimmed: bool) -> None:
    """Two prompts, one of them twice; a token each; a slot moved; a newcomer in the slot that came free."""
    torch.manual_seed(0)
    cache = KVCache(LAYERS, 3, CAPACITY, trimmed=trimmed)
    kept: list[list[list[torch.Tensor]]] = [[[] for _ in range(3)] for _ in range(LAYERS)]

    def prefill(slots: list[int], source: list[int], lengths: list[int]) -> None:
        width = max(lengths)
        cache.reserve(width)
        where = torch.tensor([[row * width + time for time in range(width)] for row in source])
        cache.plan = Prefill(torch.tensor(slots), where)
        for layer in range(LAYERS):
            keys, values = whole(width, len(lengths))
            seen = cache.update(keys, values, layer)
            assert torch.equal(seen[0], keys)
            assert torch.equal(seen[1], values)
            for slot, row in zip(slots, source, strict=True):
                kept[layer][slot] = [keys[row, :, : lengths[row]], values[row, :, : lengths[row]]]

    def append(lengths: list[int]) -> None:
        longest = cache.reserve(max(lengths) + 1)
        cache.plan = DecodeOneToken(torch.tensor(lengths), longest)
        for layer in range(LAYERS):
            keys, values = whole(1, len(lengths))
            seen = cache.update(keys, values, layer)
            assert seen[0].shape == seen[1].shape == (len(lengths), HEADS, longest, FEATURES)
            for row, length in enumerate(lengths):
                for part, new in enumerate((keys, values)):
                    kept[layer][row][part] = torch.cat([kept[layer][row][part], new[row]], 1)
                    assert torch.equal(seen[part][row, :, : length + 1], kept[layer][row][part])
                    assert torch.isfinite(seen[part]).all()

    prefill([0, 1, 2], [0, 0, 1], [3, 2])
    append([3, 3, 2])
    append([4, 4, 3])
    cache.copy_slots([2], [0])
    for layer in range(LAYERS):
        kept[layer][0] = [part.clone() for part in kept[layer][2]]
    append([4, 5])
    prefill([2], [0], [6])
    append([5, 6, 6])


def test_a_prompt_may_lie_anywhere_in_its_forward() -> None:
    """Two packed prompts that begin with the same two tokens: places 0, 1, then 2 of one, 3 and 4 of the other."""
    cache = KVCache(1, 2, CAPACITY, trimmed=False)
    cache.plan = Prefill(torch.tensor([0, 1]), torch.tensor([[0, 1, 2, 0], [0, 1, 3, 4]]))
    keys, values = whole(5)
    cache.update(keys, values, 0)
    cache.plan = DecodeOneToken(torch.tensor([3, 4]), 5)
    seen = cache.update(*whole(1, 2), 0)
    for part, given in zip(seen, (keys, values), strict=True):
        assert torch.equal(part[0, :, :3], given[0, :, [0, 1, 2]])
        assert torch.equal(part[1, :, :4], given[0, :, [0, 1, 3, 4]])


def appended(cache: KVCache, at: int) -> tuple[torch.Tensor, torch.Tensor]:
    cache.plan = DecodeOneToken(torch.tensor([at]), cache.reserve(at + 1))
    return cache.update(*whole(1), 0)


def test_it_does_not_move_where_parts_of_it_can_be_read() -> None:
    cache = KVCache(1, 1, 4, trimmed=False)
    assert len({tuple(part.data_ptr() for part in appended(cache, at)) for at in range(4)}) == 1


def test_where_they_cannot_it_is_as_wide_as_the_longest_slot() -> None:
    """What a forward reads lies in memory without gaps; twice too wide, it shrinks, and what it held stays."""
    cache = KVCache(1, 1, 16, trimmed=True)
    for at in range(7):
        keys, values = appended(cache, at)
        assert keys.shape[2] == values.shape[2] == cache.width == at + 1
        assert keys.transpose(-1, -2).is_contiguous() and values.is_contiguous()
    assert cache.reserve(4) == cache.width == 7
    assert cache.reserve(3) == cache.width == 3
    assert torch.equal(cache.keys[0][..., :3].transpose(-1, -2), keys[:, :, :3])
    assert torch.equal(cache.values[0], values[:, :, :3])
    assert cache.reserve(9) == 9 and float(cache.values[0][:, :, 3:].abs().sum()) == 0


def test_the_memory_of_a_kv_cache_is_freed_with_it() -> None:
    """Keys and values, the largest thing of a rollout, go with who holds the cache, not when Python gets to it."""
    cache = KVCache(LAYERS, 3, CAPACITY, trimmed=False)
    cache.reserve(3)
    cache.plan = Prefill(torch.tensor([0]), torch.tensor([[0, 1, 2]]))
    for layer in range(LAYERS):
        cache.update(*whole(3), layer)
    alive = [weakref.ref(part) for part in (*cache.keys, *cache.values)]
    gc.disable()
    try:
        del cache
        assert [ref() for ref in alive] == [None] * 2 * LAYERS
    finally:
        gc.enable()
