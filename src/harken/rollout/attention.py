"""Attention of one new token a row over a key-value cache, without repeating keys for grouped heads."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AttentionInterface

from harken.kernels.attention import reject_unknown_arguments
from harken.maths.matmul_dtype import without_autocast

NAME = "harken_decode"


def decode_attention(
    module: nn.Module,
    query: Float[Tensor, "rows heads 1 features"],
    key: Float[Tensor, "rows groups time features"],
    value: Float[Tensor, "rows groups time width"],
    attention_mask: Float[Tensor, "rows 1 1 time"],
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Float[Tensor, " heads"] | None = None,
    **others: Any,
) -> tuple[Float[Tensor, "rows 1 heads width"], None]:
    """softmax(cap(q k / √d) + mask) v, the softmax in float32; heads of a group share their keys as they lie in memory.

    Fast when the keys lie in memory as the cache keeps them, features before time. `attention_mask` is added: 0
    or −inf; windows are in it. `s_aux` is one more score a head, whose weight falls on nothing. Takes the arguments of
    transformers' attention interface, and raises TypeError for one that would change the result and is not known here.
    """
    reject_unknown_arguments(others, masked={"sliding_window"})
    rows, heads, _, features = query.shape
    groups = key.shape[1]
    scale = features**-0.5 if scaling is None else scaling
    grouped = query.reshape(rows, groups, heads // groups, features)
    with without_autocast(query.device):
        scores = (grouped.to(key.dtype) @ key.transpose(-1, -2)).float().mul_(scale)
        if softcap is not None:
            scores = scores.div_(softcap).tanh_().mul_(softcap)
        scores = scores.add_(attention_mask)
        if s_aux is not None:
            sinks = s_aux.float().view(1, groups, heads // groups, 1).expand(rows, -1, -1, -1)
            scores = torch.cat([scores, sinks], -1)
        weights = torch.softmax(scores, dim=-1)[..., : key.shape[-2]].to(value.dtype)
        seen = weights @ value
    return seen.to(query.dtype).reshape(rows, 1, heads, value.shape[-1]), None


AttentionInterface.register(NAME, decode_attention)
