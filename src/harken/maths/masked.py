"""Compute masked means, and whiten. Values outside the mask, NaN included, are ignored."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def masked_mean(x: Float[Tensor, "*shape"], mask: Bool[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """Compute the mean of `x` where `mask` is True, over the whole tensor; 0 for an empty mask."""
    return torch.where(mask, x, 0.0).sum() / mask.sum().clamp(min=1)


def whiten(
    x: Float[Tensor, "*shape"], mask: Bool[Tensor, "*shape"], eps: float = 1e-8
) -> Float[Tensor, "*shape"]:
    """Whiten `x` over all positions where `mask` is True; 0 elsewhere.

        (x - mean) / sqrt(variance + eps)

    The variance is biased (÷ n). Pass the whole batch, not a micro-batch: the statistics are those of the batch.
    Source: advantage whitening in Huang et al. 2024 (arXiv:2403.17031), with `tf.nn.moments`' variance.
    """
    centred = torch.where(mask, x - masked_mean(x, mask), 0.0)
    return centred * torch.rsqrt(masked_mean(centred.square(), mask) + eps)
