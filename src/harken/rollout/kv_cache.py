"""A KV cache of slots: each row starts at position 0 of its slot, and rows have different lengths.

transformers' own cache grows by concatenation, which copies everything at every step. It also keeps all rows at one
length, which pads short prompts and holds finished rows until the last one ends.
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
    """A forward over whole prompts: the tokens of slot `slots[i]` are at `token_index[i]` of the flattened input."""

    slots: Int[Tensor, " count"]
    token_index: Int[Tensor, "count time"]


@dataclass(frozen=True)
class DecodeOneToken:
    """A forward over one token for each of the first slots, at `positions[slot]`, attending to `length` positions."""

    positions: Int[Tensor, " rows"]
    length: int

    @cached_property
    def rows(self) -> Int[Tensor, " rows"]:
        """Return the slot numbers."""
        return torch.arange(len(self.positions), device=self.positions.device)


class KVCache(Cache):  # type: ignore[misc]  # transformers has no types here
    """The cached keys and values of all layers, allocated at the first forward.

    Per layer, `values` is [slots, heads, positions, features], and `keys` is transposed, [slots, heads, features,
    positions]: a matmul of few queries with untransposed keys begins by copying them (767 against 185 µs per layer for
    32 rows of 120 tokens on a CPU). Both are in the matmul dtype (`maths.matmul_dtype`).

    Before a forward, call `reserve` and set `plan`. Positions beyond a slot's length hold old contents, which the
    caller's mask hides; they are finite, since a weight of 0 times NaN would be NaN.
    """

    def __init__(self, layers: int, slots: int, capacity: int, *, trimmed: bool) -> None:
        """With `trimmed`, the tables are as wide as the longest slot needs, else `capacity` wide from the start.

        For a CPU, where a matmul with a slice of a wider table begins by copying the slice.
        """
        super().__init__(layers=[_Layer(self, index) for index in range(layers)])
        self.slots, self.capacity, self.trimmed = slots, capacity, trimmed
        self.width = 0 if trimmed else capacity
        self.plan: Prefill | DecodeOneToken | None = None
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def reserve(self, longest: int) -> int:
        """Make room for `longest` positions in every slot. Return how many of them a forward attends to."""
        if self.trimmed and (longest > self.width or 2 * longest <= self.width):
            self.width = longest
            for layer, (keys, values) in enumerate(zip(self.keys, self.values, strict=True)):
                self.keys[layer], self.values[layer] = (
                    _resize(keys, 3, longest),
                    _resize(values, 2, longest),
                )
        return self.width if self.trimmed else longest

    def copy_slots(self, source: Sequence[int], target: Sequence[int]) -> None:
        """Copy slots `source` to slots `target`."""
        from_slots, to_slots = torch.tensor(source), torch.tensor(target)
        for store in (*self.keys, *self.values):
            store.index_copy_(
                0, to_slots.to(store.device), store.index_select(0, from_slots.to(store.device))
            )

    def store(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store a layer's new keys and values, [rows, heads, tokens, features]; return those to attend to."""
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
            # [heads, tokens, features] → [heads, count, time, features]
            new_keys, new_values = (
                t.transpose(0, 1).flatten(1, 2)[:, plan.token_index] for t in (keys, values)
            )
            all_keys[plan.slots, :, :, :width] = new_keys.permute(1, 0, 3, 2).to(all_keys.dtype)
            all_values[plan.slots, :, :width] = new_values.transpose(0, 1).to(all_values.dtype)
            return keys, values
        cached = self.append(layer, keys[:, :, 0], values[:, :, 0])
        return cached[0].transpose(-1, -2), cached[1]

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store a layer's keys and values of one token per row, [rows, heads, features].

        Returns those to attend to, with keys transposed as they are stored.
        """
        all_keys, all_values, plan = self.keys[layer], self.values[layer], self.plan
        assert isinstance(plan, DecodeOneToken)
        all_keys[plan.rows, :, :, plan.positions] = keys.to(all_keys.dtype)
        all_values[plan.rows, :, plan.positions] = values.to(all_values.dtype)
        rows = len(plan.positions)
        return all_keys[:rows, ..., : plan.length], all_values[:rows, :, : plan.length]


def _resize(store: Tensor, dim: int, width: int) -> Tensor:
    """Return a copy of `store` with size `width` in `dim`: the first entries are kept, the new ones are zero."""
    shape = [*store.shape]
    copied, shape[dim] = min(shape[dim], width), width
    resized = store.new_zeros(shape)
    resized.narrow(dim, 0, copied).copy_(store.narrow(dim, 0, copied))
    return resized


class _Layer(CacheLayerMixin):  # type: ignore[misc]
    """The cache layer that transformers calls. The decoder makes the masks, except a prompt's own causal one."""

    is_sliding = False

    def __init__(self, cache: KVCache, index: int) -> None:
        super().__init__()
        # Weak: a reference cycle would keep the cache in memory until Python's cycle collector runs.
        self.cache: KVCache = weakref.proxy(cache)  # type: ignore[assignment]
        self.number = index

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Do nothing: the cache allocates all layers itself."""

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
