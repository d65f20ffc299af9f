"""Means and standard scores over the tokens that count. What lies elsewhere, NaN included, is never read."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def masked_mean(x: Float[Tensor, "*shape"], mask: Bool[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """The mean of `x` where `mask` is True, over the whole tensor; 0 when it is True nowhere."""
    return torch.where(mask, x, 0.0).sum() / mask.sum().clamp(min=1)


def standardise(
    x: Float[Tensor, "*shape"], mask: Bool[Tensor, "*shape"], eps: float = 1e-8
) -> Float[Tensor, "*shape"]:
    """Mean removed, divided by the standard deviation, over all places where `mask` is True; 0 elsewhere.

        (x - mean) / sqrt(variance + eps)

    The variance is the biased one (÷ n). One batch has one mean and one deviation: give the whole batch,
    never a micro-batch.
    Source: advantage whitening in Huang et al. 2024 (arXiv:2403.17031), with `tf.nn.moments`' variance.
    """
    centred = torch.where(mask, x - masked_mean(x, mask), 0.0)
    return centred * torch.rsqrt(masked_mean(centred.square(), mask) + eps)
