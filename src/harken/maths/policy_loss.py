"""Compute PPO's two clipped losses per token; the caller masks and averages.

Source: Schulman et al. 2017 (arXiv:1707.06347) eq. 7; the value clip: Huang et al. 2024 (arXiv:2403.17031).
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

MAX_LOG_RATIO = 20.0


def clipped_policy_loss(
    logprobs: Float[Tensor, "*shape"],
    old_logprobs: Float[Tensor, "*shape"],
    advantages: Float[Tensor, "*shape"],
    clip_range: float,
    clip_range_high: float | None = None,
) -> Float[Tensor, "*shape"]:
    """Compute PPO's clipped policy loss: no gain from moving the ratio beyond the clip range.

        ratio = exp(logprobs - old_logprobs)
        loss  = max(-A ratio, -A clip(ratio, 1 - clip_range, 1 + clip_range_high))

    `clip_range_high` defaults to `clip_range`; a larger one lets the probability of unlikely tokens rise further
    (Yu et al. 2025, arXiv:2503.14476, "clip higher").

    The log-ratio is clamped to ±20, so that its exponential cannot overflow.
    """
    log_ratio = (logprobs - old_logprobs).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    ratio = log_ratio.exp()
    high = clip_range if clip_range_high is None else clip_range_high
    clipped = ratio.clamp(1.0 - clip_range, 1.0 + high)
    return torch.maximum(-advantages * ratio, -advantages * clipped)


def sequence_log_ratio(
    logprobs: Float[Tensor, "batch time"],
    old_logprobs: Float[Tensor, "batch time"],
    mask: Bool[Tensor, "batch time"],
) -> Float[Tensor, "batch time"]:
    """Compute the log of GSPO's sequence ratio, for each token of a response; 0 outside `mask`.

        log s = mean over the response of (logprobs - old_logprobs)
        token t: stop_gradient(log s) + logprobs_t - stop_gradient(logprobs_t)

    Every token has its response's ratio s. The gradient of token t is its own, so the advantages of a response's tokens
    may differ; where they are equal, the loss and its gradient are those of s itself. With one token s is its ratio.
    Source: Zheng et al. 2025 (arXiv:2507.18071) eq. 7; per token: eq. 14 (GSPO-token).
    """
    log_ratio = torch.where(mask, logprobs - old_logprobs, 0.0)
    mean = log_ratio.sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp(min=1)
    return torch.where(mask, mean.detach() + log_ratio - log_ratio.detach(), 0.0)


def response_weights(mask: Bool[Tensor, "batch time"]) -> Float[Tensor, "batch time"]:
    """Weight each token by 1 / number of masked tokens of its response, so that every response counts the same.

    0 outside `mask`. Source: Shao et al. 2024 (arXiv:2402.03300) eq. 3.
    """
    return mask / mask.sum(-1, keepdim=True).clamp(min=1)


def clipped_value_loss(
    values: Float[Tensor, "*shape"],
    old_values: Float[Tensor, "*shape"],
    returns: Float[Tensor, "*shape"],
    clip_range: float | None,
) -> Float[Tensor, "*shape"]:
    """Compute the critic's clipped squared error, in units of reward²: no gain from moving far from the old value.

        loss = ½ max((V - R)², (clip(V, V_old - clip_range, V_old + clip_range) - R)²)

    `clip_range` None: ½ (V - R)².
    """
    unclipped = (values - returns).square()
    if clip_range is None:
        return 0.5 * unclipped
    clipped = torch.clamp(values, old_values - clip_range, old_values + clip_range)
    return 0.5 * torch.maximum(unclipped, (clipped - returns).square())
