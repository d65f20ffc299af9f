"""How many answers are in the making at a time.

A step of generation reads all weights, however many rows it is for. 64 rows gave 1.3 times the tokens a second of 32,
96 no more than 64 (LOG.md). Their keys and values should not become the largest thing in memory.
"""

from __future__ import annotations

import torch
from transformers import PreTrainedConfig

MAX_SLOTS, MIN_SLOTS = 64, 32
MAX_CACHE_BYTES = 1 << 29
"""Bytes of keys and values above which it is fewer than `MAX_SLOTS`, down to `MIN_SLOTS`."""


def slots(answers: int, of_one: float, most: int = MAX_SLOTS) -> int:
    """For so many answers, the keys and values of each of which take `of_one` bytes."""
    return min(answers, most, max(MIN_SLOTS, int(MAX_CACHE_BYTES // of_one)))


def cache_bytes(config: PreTrainedConfig, tokens: int, dtype: torch.dtype) -> int:
    """Keys and values of one sequence, at most: some families' heads are narrower in some layers."""
    widest = max(map(_cache_width, layer_configs(config)))
    return int(2 * config.num_hidden_layers * tokens * widest * dtype.itemsize)


def layer_configs(config: PreTrainedConfig) -> list[PreTrainedConfig]:
    """Return the configuration of each layer where layers differ, else the one of all."""
    return list(config.per_layer_config[:]) if config.is_heterogeneous else [config]


def _cache_width(config: PreTrainedConfig) -> int:
    groups = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    features = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(groups * features)
