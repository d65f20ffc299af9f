"""The two clipped losses of PPO. They give a value for every token; the caller selects and averages.

Source: Schulman et al. 2017 (arXiv:1707.06347) eq. 7; the value clip: Huang et al. 2024 (arXiv:2403.17031).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

LOG_RATIO_GUARD = 20.0


def clipped_policy_loss(
    logprobs: Float[Tensor, "*shape"],
    old_logprobs: Float[Tensor, "*shape"],
    advantages: Float[Tensor, "*shape"],
    clip_range: float,
    clip_range_high: float | None = None,
) -> Float[Tensor, "*shape"]:
    """The pessimistic of two losses: nothing is gained by moving the ratio past the clip.

        ratio = exp(logprobs - old_logprobs)
        loss  = max(-A ratio, -A clip(ratio, 1 - clip_range, 1 + clip_range_high))

    `clip_range_high` left out is `clip_range`; a larger one lets unlikely tokens rise further
    (Yu et al. 2025, arXiv:2503.14476, "clip higher").

    The log-ratio is held within ±20, so that a token that became e²⁰ times likelier cannot overflow.
    """
    log_ratio = (logprobs - old_logprobs).clamp(-LOG_RATIO_GUARD, LOG_RATIO_GUARD)
    ratio = log_ratio.exp()
    high = clip_range if clip_range_high is None else clip_range_high
    clipped = ratio.clamp(1.0 - clip_range, 1.0 + high)
    return torch.maximum(-advantages * ratio, -advantages * clipped)


def clipped_value_loss(
    values: Float[Tensor, "*shape"],
    old_values: Float[Tensor, "*shape"],
    returns: Float[Tensor, "*shape"],
    clip_range: float | None,
) -> Float[Tensor, "*shape"]:
    """Squared error of the critic, in units of reward². Moving far from the old value gains nothing.

        loss = ½ max((V - R)², (clip(V, V_old - clip_range, V_old + clip_range) - R)²)

    `clip_range` None: ½ (V - R)².
    """
    plain = (values - returns).square()
    if clip_range is None:
        return 0.5 * plain
    held = torch.clamp(values, old_values - clip_range, old_values + clip_range)
    return 0.5 * torch.maximum(plain, (held - returns).square())
