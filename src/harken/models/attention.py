"""Causal attention over short sequences, for training on a CPU: plain multiplications, grouped heads, little kept.

torch's fused attention is slow there, forward and backward, and transformers' plain one repeats keys for grouped
heads and keeps the weights twice, in two precisions.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface

NAME = "harken_short"


def causal_attention(
    module: nn.Module,
    query: Float[Tensor, "batch heads time features"],
    key: Float[Tensor, "batch groups time features"],
    value: Float[Tensor, "batch groups time features"],
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **ignored: Any,
) -> tuple[Float[Tensor, "batch time heads features"], None]:
    """softmax(q k s + causal mask) v, the softmax in float32. Takes the arguments of transformers' interface.

    Every position sees itself and all before it: for layers without windows, right-padded rows, no mask of their own.
    """
    assert attention_mask is None
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    seen: Tensor = _Attention.apply(query, key, value, scale)  # type: ignore[no-untyped-call]
    return seen, None


class _Attention(torch.autograd.Function):
    """With w = softmax(s q k'):   dv = w' dy,  g = w (dy v' - Σ w dy v'),  dq = s g k,  dk = s g' q.

    Heads of a group are rows of one multiplication: [batch, groups, heads / groups × time, …].
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        batch, heads, time, features = query.shape
        groups = key.shape[1]
        rows = query.reshape(batch, groups, -1, features)
        scores = (rows @ key.transpose(-1, -2)).float().mul_(scale)
        future = torch.ones(time, time, dtype=torch.bool, device=query.device).triu_(1)
        scores.view(batch, groups, -1, time, time).masked_fill_(future, -torch.inf)
        weights = torch.softmax(scores, dim=-1).to(value.dtype)
        ctx.save_for_backward(rows, key, value, weights)
        ctx.scale = scale
        return (weights @ value).view(batch, heads, time, -1).transpose(1, 2).contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_y: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        rows, key, value, weights = ctx.saved_tensors
        batch, groups, _, features = rows.shape
        time = key.shape[2]
        of_rows = of_y.transpose(1, 2).reshape(batch, groups, -1, value.shape[-1])
        of_value = weights.transpose(-1, -2) @ of_rows
        of_weights = (of_rows @ value.transpose(-1, -2)).float()
        wide = weights.float()
        slope = (
            of_weights.sub_(torch.linalg.vecdot(of_weights, wide).unsqueeze(-1)).mul_(wide).mul_(ctx.scale)
        )
        slope = slope.to(key.dtype)
        of_query = (slope @ key).view(batch, -1, time, features)
        return of_query, slope.transpose(-1, -2) @ rows, of_value, None


AttentionInterface.register(NAME, causal_attention)
