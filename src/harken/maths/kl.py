"""Estimate KL(policy ‖ reference) from sampled tokens, and control its coefficient.

With Δ = log π(token) - log π_ref(token), in nats per token, and tokens sampled from π:
k1 is unbiased and may be negative, k2 is biased and positive, k3 is unbiased and positive, |Δ| is biased.
Source: Schulman 2020, "Approximating KL divergence" (joschu.net/blog/kl-approx.html).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


def k1(logprobs: Float[Tensor, "*shape"], ref_logprobs: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return Δ, the estimate to use in a reward. It is not clamped, so its mean is the KL."""
    return logprobs - ref_logprobs


def k2(logprobs: Float[Tensor, "*shape"], ref_logprobs: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return Δ² / 2. On samples of the policy itself its expected gradient is that of the KL."""
    return (logprobs - ref_logprobs).square() / 2


def k3(logprobs: Float[Tensor, "*shape"], ref_logprobs: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return exp(-Δ) - 1 + Δ: never negative, for logging."""
    delta = logprobs - ref_logprobs
    return torch.expm1(-delta) + delta


def absolute(
    logprobs: Float[Tensor, "*shape"], ref_logprobs: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """Return |Δ|: a penalty on any change, larger than the KL."""
    return (logprobs - ref_logprobs).abs()


ESTIMATORS = {"k1": k1, "abs": absolute, "k2": k2, "k3": k3}
"""Estimators by their configuration names. `full` is `maths.logprobs.full_kl`, which needs all logits."""


def scheduled_coefficient(kind: str, first: float, last: float, update: int, updates: int) -> float:
    """Return the scheduled KL coefficient of update `update` (from 0) of `updates`, going from `first` to `last`.

    `kind` is "linear" or "cosine" (half a period).
    """
    done = update / max(updates - 1, 1)
    weight = done if kind == "linear" else 0.5 * (1.0 - math.cos(math.pi * done))
    return first + (last - first) * weight


def adaptive_coefficient(
    coefficient: float, observed: float, target: float, horizon: float, sequences: int
) -> float:
    """Return the adaptive controller's KL coefficient after an update on `sequences` responses.

        coefficient × (1 + clip(observed / target - 1, -0.2, 0.2) × sequences / horizon)

    `observed` and `target` are in nats per sequence.
    Source: Ziegler et al. 2019 (arXiv:1909.08593) section 2.2.
    """
    error = min(max(observed / target - 1.0, -0.2), 0.2)
    return coefficient * (1.0 + error * sequences / horizon)
