"""From scores to what PPO learns from: KL in the reward, GAE, returns, whitened advantages."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from harken.batches import Credit, TokenEvaluation
from harken.config import PPOSettings
from harken.maths.advantage import gae, token_rewards
from harken.maths.kl import k1
from harken.maths.masked import standardise


@dataclass(frozen=True)
class Assigned:
    """The credit of one rollout batch and the quantities worth reporting."""

    credit: Credit
    kl: Float[Tensor, "batch time"]
    rewards: Float[Tensor, "batch time"]
    learnable: Bool[Tensor, "batch time"]


def assign_credit(
    old: TokenEvaluation,
    reference_logprobs: Float[Tensor, "batch time"],
    action: Bool[Tensor, "batch time"],
    truncated: Bool[Tensor, " batch"],
    reward: Float[Tensor, " batch"],
    kl_coefficient: float,
    settings: PPOSettings,
) -> Assigned:
    """Credit every sampled token.

    The reward of an answer falls on its last sampled token, the KL penalty on each token (k1 in nats,
    unclamped). Returns are made before whitening. With `truncated: mask`, cut answers are left out of
    whitening and of the loss.
    """
    kl = torch.where(action, k1(old.logprobs, reference_logprobs), 0.0)
    rewards = token_rewards(reward, kl, action, kl_coefficient)
    advantages = gae(rewards, old.values, action, settings.gamma, settings.lam)
    returns = torch.where(action, advantages + old.values, 0.0)
    learnable = action & ~truncated[:, None] if settings.truncated == "mask" else action
    if settings.whiten_advantages and learnable.any():
        advantages = standardise(advantages, learnable)
    return Assigned(Credit(old.logprobs, old.values, advantages, returns), kl, rewards, learnable)
