"""Choose how many responses are generated at a time.

A decode step reads all weights, however many rows it computes. 64 rows gave 1.3 times the tokens per second of 32, and
96 no more than 64 (docs/log/performance.md). The KV cache should not dominate memory.
"""

from __future__ import annotations

import torch
from transformers import PreTrainedConfig

MAX_SLOTS, MIN_SLOTS = 64, 32
MAX_CACHE_BYTES = 1 << 29
"""With a larger KV cache there are fewer than `MAX_SLOTS` slots, down to `MIN_SLOTS`."""
MAX_CACHE_SHARE = 1 / 4
"""The largest share of the device's memory that the KV cache takes, with fewer than `MIN_SLOTS` slots if it must."""


def slot_count(
    responses: int, bytes_per_slot: float, limit: int = MAX_SLOTS, memory: float | None = None
) -> int:
    """Return the number of slots for this many responses, with a KV cache of `bytes_per_slot` each.

    `memory` is that of the device in bytes, used or free: what is free changes between a run and its resumption, and
    the composition of a batch affects rounding. None: unknown, no bound.
    """
    slots = max(MIN_SLOTS, int(MAX_CACHE_BYTES // bytes_per_slot))
    if memory is not None:
        slots = min(slots, max(1, int(MAX_CACHE_SHARE * memory // bytes_per_slot)))
    return min(responses, limit, slots)


def cache_bytes(config: PreTrainedConfig, tokens: int, dtype: torch.dtype) -> int:
    """Return the bytes of the KV cache of one sequence; an upper bound where layers have different widths."""
    widest = max(map(_cache_width, layer_configs(config)))
    return int(2 * config.num_hidden_layers * tokens * widest * dtype.itemsize)


def layer_configs(config: PreTrainedConfig) -> list[PreTrainedConfig]:
    """Return the configuration of each layer where layers differ, else the one of all."""
    return list(config.per_layer_config[:]) if config.is_heterogeneous else [config]


def _cache_width(config: PreTrainedConfig) -> int:
    groups = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    features = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(groups * features)
