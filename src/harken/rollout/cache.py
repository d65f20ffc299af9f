"""A key-value cache of slots: each row starts at its own position 0 and grows at its own pace.

transformers' own grows by concatenation, which copies everything at every step, and keeps all rows equally long,
which pads short prompts and holds finished rows until the last one ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin


@dataclass(frozen=True)
class Admission:
    """A forward of whole prompts: the tokens of slot `slots[i]` stand at `where[i]` of the forward, counted flat."""

    slots: Int[Tensor, " count"]
    where: Int[Tensor, "count time"]


@dataclass(frozen=True)
class Append:
    """A forward of one token for each of the first `rows` slots, at position `at[row]`; `longest` tokens after it."""

    rows: int
    at: Tensor
    longest: int


class SlotCache(Cache):  # type: ignore[misc]  # transformers has no types here
    """Made when the first layer shows its shape: `values` [layers, slots, heads, capacity, features], and `keys`
    transposed, [layers, slots, heads, features, capacity], because a product of few queries with keys that lie the
    other way begins by copying them (767 against 185 µs a layer for 32 rows of 120 tokens on a CPU).

    Say what the coming forward is in `plan`. Places beyond a slot's length hold whatever was there: the caller's
    mask hides them, and they are finite, because nothing else may be multiplied by a weight of zero.
    """

    def __init__(self, layers: int, slots: int, capacity: int) -> None:
        super().__init__(layers=[_Layer(self, number) for number in range(layers)])
        self.slots, self.capacity = slots, capacity
        self.plan: Admission | Append | None = None
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def move(self, source: Sequence[int], target: Sequence[int]) -> None:
        """Slots `target` become copies of slots `source`."""
        assert self.keys is not None and self.values is not None
        for store in (self.keys, self.values):
            store[:, list(target)] = store[:, list(source)]

    def store(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keep what a layer computed, [rows, heads, tokens, features]; returns what it is to attend to."""
        if self.keys is None or self.values is None:
            _, heads, _, features = keys.shape
            shape = (len(self.layers), self.slots, heads)
            self.keys = keys.new_zeros((*shape, features, self.capacity))
            self.values = values.new_zeros((*shape, self.capacity, values.shape[-1]))
        kept, plan = (self.keys[layer], self.values[layer]), self.plan
        if isinstance(plan, Admission):
            width = plan.where.shape[1]
            # [heads, places, features] → [heads, count, time, features]
            of_keys, of_values = (t.transpose(0, 1).flatten(1, 2)[:, plan.where] for t in (keys, values))
            kept[0][plan.slots, :, :, :width] = of_keys.permute(1, 0, 3, 2)
            kept[1][plan.slots, :, :width] = of_values.transpose(0, 1)
            return keys, values
        assert plan is not None
        rows = torch.arange(plan.rows, device=keys.device)
        kept[0][rows, :, :, plan.at] = keys[:, :, 0]
        kept[1][rows, :, plan.at] = values[:, :, 0]
        return kept[0][: plan.rows, ..., : plan.longest].transpose(-1, -2), kept[1][
            : plan.rows, :, : plan.longest
        ]


class _Layer(CacheLayerMixin):  # type: ignore[misc]
    """What transformers asks of a layer. Masks are the decoder's, but for a prompt's own causal one."""

    is_sliding = False

    def __init__(self, cache: SlotCache, number: int) -> None:
        super().__init__()
        self.cache, self.number = cache, number

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
