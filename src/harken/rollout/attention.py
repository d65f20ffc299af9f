"""Attention of one new token a row over a key-value cache, without repeating keys for grouped heads."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AttentionInterface

from harken.maths.products import as_given

NAME = "harken_decode"


def decode_attention(
    module: nn.Module,
    query: Float[Tensor, "rows heads 1 features"],
    key: Float[Tensor, "rows groups time features"],
    value: Float[Tensor, "rows groups time features"],
    attention_mask: Float[Tensor, "rows 1 1 time"],
    scaling: float | None = None,
    **ignored: Any,
) -> tuple[Float[Tensor, "rows 1 heads features"], None]:
    """softmax(q k / √d + mask) v, the softmax in float32; heads of a group share their keys as they lie in memory.

    Fast when the keys lie in memory as the cache keeps them, features before time. `attention_mask` is added: 0
    or −inf. Takes the arguments of transformers' attention interface.
    """
    rows, heads, _, features = query.shape
    groups = key.shape[1]
    scale = features**-0.5 if scaling is None else scaling
    grouped = query.reshape(rows, groups, heads // groups, features)
    with as_given(query.device):
        scores = grouped.to(key.dtype) @ key.transpose(-1, -2)
        weights = torch.softmax(scores.float().mul_(scale).add_(attention_mask), dim=-1).to(value.dtype)
        seen = weights @ value
    return seen.to(query.dtype).reshape(rows, 1, heads, value.shape[-1]), None


AttentionInterface.register(NAME, decode_attention)
