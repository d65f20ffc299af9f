"""PPO targets from what a loss reads of them."""

from __future__ import annotations

import torch
from torch import Tensor

from harken.train.ppo.targets import PPOTargets


def make_targets(
    old_logprobs: Tensor,
    old_values: Tensor,
    advantages: Tensor,
    returns: Tensor,
    policy_mask: Tensor,
    value_mask: Tensor | None = None,
    kl: Tensor | None = None,
) -> PPOTargets:
    """Both masks are `policy_mask` where no other is given; rewards are 0, and so is the KL by default."""
    zero = torch.zeros_like(old_logprobs)
    of_kl = zero if kl is None else kl
    value_mask = policy_mask if value_mask is None else value_mask
    return PPOTargets(
        old_logprobs, old_values, advantages, returns, policy_mask, value_mask, zero, of_kl, of_kl
    )
