"""A key-value cache of slots: each row starts at its own position 0 and grows at its own pace.

transformers' own grows by concatenation, which copies everything at every step, and keeps all rows equally long,
which pads short prompts and holds finished rows until the last one ends.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Int
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from harken.maths.matmul_dtype import matmul_dtype


@dataclass(frozen=True)
class Prefill:
    """A forward of whole prompts: the tokens of slot `slots[i]` stand at `where[i]` of the forward, counted flat."""

    slots: Int[Tensor, " count"]
    token_index: Int[Tensor, "count time"]


@dataclass(frozen=True)
class DecodeOneToken:
    """A forward of one token for each of the first slots, at position `at[slot]`, over `places` of the past."""

    at: Int[Tensor, " rows"]
    places: int

    @cached_property
    def rows(self) -> Int[Tensor, " rows"]:
        """Their numbers."""
        return torch.arange(len(self.at), device=self.at.device)


class KVCache(Cache):  # type: ignore[misc]  # transformers has no types here
    """Made when the first layer shows its shape: of each layer `values` [slots, heads, places, features], and `keys`
    transposed, [slots, heads, features, places], because a product of few queries with keys that lie the other way
    begins by copying them (767 against 185 µs a layer for 32 rows of 120 tokens on a CPU). Both are in the type in
    which they are multiplied (`maths.matmul_dtype`).

    Say what the coming forward is in `plan`, after `reserve`. Places beyond a slot's length hold whatever was there:
    the caller's mask hides them, and they are finite, because nothing else may be multiplied by a weight of zero.
    """

    def __init__(self, layers: int, slots: int, capacity: int, *, trimmed: bool) -> None:
        """`trimmed`: as wide as the longest slot needs, on a CPU, where a product with a part of a wider table begins
        by copying that part; else `capacity` places from the start."""
        super().__init__(layers=[_Layer(self, number) for number in range(layers)])
        self.slots, self.capacity, self.trimmed = slots, capacity, trimmed
        self.width = 0 if trimmed else capacity
        self.plan: Prefill | DecodeOneToken | None = None
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def reserve(self, longest: int) -> int:
        """Make room for `longest` places in every slot. Returns how many of them a forward is to attend to."""
        if self.trimmed and (longest > self.width or 2 * longest <= self.width):
            self.width = longest
            for layer, (keys, values) in enumerate(zip(self.keys, self.values, strict=True)):
                self.keys[layer], self.values[layer] = (
                    _resize(keys, 3, longest),
                    _resize(values, 2, longest),
                )
        return self.width if self.trimmed else longest

    def copy_slots(self, source: Sequence[int], target: Sequence[int]) -> None:
        """Slots `target` become copies of slots `source`."""
        there, here = torch.tensor(source), torch.tensor(target)
        for store in (*self.keys, *self.values):
            store.index_copy_(0, here.to(store.device), store.index_select(0, there.to(store.device)))

    def store(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keep what a layer computed, [rows, heads, tokens, features]; returns what it is to attend to."""
        if layer == len(self.keys):
            _, heads, _, features = keys.shape
            dtype = matmul_dtype(keys.dtype, keys.device)
            self.keys.append(keys.new_zeros((self.slots, heads, features, self.width), dtype=dtype))
            self.values.append(
                values.new_zeros((self.slots, heads, self.width, values.shape[-1]), dtype=dtype)
            )
        all_keys, all_values, plan = self.keys[layer], self.values[layer], self.plan
        if isinstance(plan, Prefill):
            width = plan.token_index.shape[1]
            # [heads, places, features] → [heads, count, time, features]
            new_keys, new_values = (
                t.transpose(0, 1).flatten(1, 2)[:, plan.token_index] for t in (keys, values)
            )
            all_keys[plan.slots, :, :, :width] = new_keys.permute(1, 0, 3, 2).to(all_keys.dtype)
            all_values[plan.slots, :, :width] = new_values.transpose(0, 1).to(all_values.dtype)
            return keys, values
        past = self.append(layer, keys[:, :, 0], values[:, :, 0])
        return past[0].transpose(-1, -2), past[1]

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keep what a layer computed of one token a row, [rows, heads, features]; returns what it is to attend to,
        keys as they lie here."""
        all_keys, all_values, plan = self.keys[layer], self.values[layer], self.plan
        assert isinstance(plan, DecodeOneToken)
        all_keys[plan.rows, :, :, plan.at] = keys.to(all_keys.dtype)
        all_values[plan.rows, :, plan.at] = values.to(all_values.dtype)
        rows = len(plan.at)
        return all_keys[:rows, ..., : plan.places], all_values[:rows, :, : plan.places]


def _resize(store: Tensor, places: int, width: int) -> Tensor:
    """A table with `width` of what its dimension `places` counts: the first ones stay, new ones are zero."""
    shape = [*store.shape]
    kept, shape[places] = min(shape[places], width), width
    resized = store.new_zeros(shape)
    resized.narrow(places, 0, kept).copy_(store.narrow(places, 0, kept))
    return resized


class _Layer(CacheLayerMixin):  # type: ignore[misc]
    """What transformers asks of a layer. Masks are the decoder's, but for a prompt's own causal one."""

    is_sliding = False

    def __init__(self, cache: KVCache, number: int) -> None:
        super().__init__()
        # The cache holds its layers: held by them as well, it would stay in memory until Python looks for circles.
        self.cache: KVCache = weakref.proxy(cache)  # type: ignore[assignment]
        self.number = number

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing: the cache makes room for all layers at once."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        return self.cache.store(self.number, key_states, value_states)

    def get_seq_length(self) -> int:
        return 0

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return query_length, 0

    def get_max_length(self) -> int:
        return self.cache.capacity
