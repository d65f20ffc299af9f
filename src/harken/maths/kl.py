"""Estimates of KL(policy ‖ reference) from sampled tokens, and the controller of its price.

With Δ = log π(token) - log π_ref(token), in nats per token, and tokens sampled from π:
k1 is unbiased and may be negative, k2 is biased and positive, k3 is unbiased and positive.
Source: Schulman 2020, "Approximating KL divergence" (joschu.net/blog/kl-approx.html).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def k1(
    logprobs: Float[Tensor, "*shape"], reference_logprobs: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """Δ: the estimate that belongs in a reward. Never clamped, so its mean stays the KL."""
    return logprobs - reference_logprobs


def k2(
    logprobs: Float[Tensor, "*shape"], reference_logprobs: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """Δ² / 2: the estimate whose gradient, on samples of the policy itself, is the KL's in expectation."""
    return (logprobs - reference_logprobs).square() / 2


def k3(
    logprobs: Float[Tensor, "*shape"], reference_logprobs: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """exp(-Δ) - 1 + Δ: never negative, for logging."""
    delta = logprobs - reference_logprobs
    return torch.expm1(-delta) + delta


def adaptive_coefficient(
    coefficient: float, observed: float, target: float, horizon: float, sequences: int
) -> float:
    """The KL coefficient after an update that saw `sequences` answers.

        coefficient × (1 + clip(observed / target - 1, -0.2, 0.2) × sequences / horizon)

    `observed` and `target` are in nats per sequence.
    Source: Ziegler et al. 2019 (arXiv:1909.08593) section 2.2.
    """
    error = min(max(observed / target - 1.0, -0.2), 0.2)
    return coefficient * (1.0 + error * sequences / horizon)
