"""Attention of one new token per row over a KV cache, without repeating keys for grouped heads."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AttentionInterface

from harken.kernels.attention import reject_unknown_arguments
from harken.maths.matmul_dtype import without_autocast

DECODE_ATTENTION = "harken_decode"


def decode_attention(
    module: nn.Module,
    query: Float[Tensor, "rows heads 1 features"],
    key: Float[Tensor, "rows groups time features"],
    value: Float[Tensor, "rows groups time width"],
    attention_mask: Float[Tensor, "rows 1 1 time"],
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Float[Tensor, " heads"] | None = None,
    **kwargs: Any,
) -> tuple[Float[Tensor, "rows 1 heads width"], None]:
    """Compute softmax(cap(q k / √d) + mask) v with the softmax in float32, without repeating keys for grouped heads.

    Fast when keys are stored as the cache stores them, features before time. `attention_mask` is additive, 0 or −inf,
    and includes sliding windows. `s_aux` is one attention sink per head: a score whose weight goes to no value. Takes
    the arguments of transformers' attention interface; raises TypeError for one that would change the result and is
    not supported.
    """
    reject_unknown_arguments(kwargs, masked={"sliding_window"})
    rows, heads, _, features = query.shape
    groups = key.shape[1]
    scale = features**-0.5 if scaling is None else scaling
    grouped = query.reshape(rows * groups, heads // groups, features).to(key.dtype)
    keys, values = key.flatten(0, 1), value.flatten(0, 1)
    mask = attention_mask.expand(rows, groups, 1, -1).reshape(rows * groups, 1, -1)
    with without_autocast(query.device):
        if softcap is None and s_aux is None:
            # Rounds scale × q k + mask once, as the training forward does (`kernels.attention`): in 16 bits another
            # order of rounding moves the hidden states by 1 to 4 %.
            scores = torch.baddbmm(mask.to(key.dtype), grouped, keys.transpose(1, 2), alpha=scale).float()
        else:
            scores = (grouped @ keys.transpose(1, 2)).float().mul_(scale)
            if softcap is not None:
                scores = scores.div_(softcap).tanh_().mul_(softcap)
            scores = scores.add_(mask)
            if s_aux is not None:
                sinks = s_aux.float().view(1, groups, heads // groups, 1).expand(rows, -1, -1, -1)
                scores = torch.cat([scores, sinks.flatten(0, 1)], -1)
        weights = torch.softmax(scores, dim=-1)[..., : key.shape[-2]].to(value.dtype)
        output = torch.bmm(weights, values)
    return output.to(query.dtype).reshape(rows, 1, heads, value.shape[-1]), None


AttentionInterface.register(DECODE_ATTENTION, decode_attention)
