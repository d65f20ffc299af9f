"""The reserved cache against transformers' own."""

from __future__ import annotations

import torch
from tiny import tiny_model
from transformers import DynamicCache, MistralConfig

from harken.rollout.cache import reserved_cache


def test_it_holds_what_a_growing_cache_holds() -> None:
    config = tiny_model().config
    reserved, growing = reserved_cache(config, 9), DynamicCache(config=config)
    torch.manual_seed(0)
    for length in (5, 1, 1):
        for layer in range(config.num_hidden_layers):
            keys, values = torch.randn(2, 3, 2, length, 8)
            for left, right in zip(
                reserved.update(keys, values, layer), growing.update(keys, values, layer), strict=True
            ):
                assert torch.equal(left, right)
        assert reserved.get_seq_length() == growing.get_seq_length()
    for cache in (reserved, growing):
        cache.batch_select_indices(torch.tensor([2, 0]))
        cache.update(torch.ones(2, 2, 1, 8), torch.ones(2, 2, 1, 8), 0)
    assert reserved.get_seq_length() == growing.get_seq_length() == 8
    assert torch.equal(reserved.layers[0].keys, growing.layers[0].keys)
    assert torch.equal(reserved.layers[1].values, growing.layers[1].values)


def test_it_does_not_move_while_it_grows() -> None:
    config = tiny_model().config
    cache = reserved_cache(config, 4)
    state = torch.zeros(1, 2, 1, 8)
    places = {cache.update(state, state, 0)[0].data_ptr() for _ in range(4)}
    assert len(places) == 1


def test_layers_that_keep_a_window_stay_as_they_are() -> None:
    config = MistralConfig(num_hidden_layers=2, sliding_window=4)
    own = [type(layer) for layer in DynamicCache(config=config).layers]
    assert [type(layer) for layer in reserved_cache(config, 9).layers] == own
