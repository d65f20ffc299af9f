"""From scores to what PPO learns from: KL in the reward, advantages, returns, whitening."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from harken.batches import Credit, PolicyOutputs
from harken.config.ppo import PPOSettings
from harken.maths.advantage import (
    first_response_token,
    gae,
    group_advantages,
    token_rewards,
    undiscounted_returns,
)
from harken.maths.kl import ESTIMATORS, k1
from harken.maths.masked import standardise
from harken.run.credit_table import TokenColumns


@dataclass(frozen=True)
class PPOTargets:
    """The credit of one rollout batch and the quantities worth reporting.

    `kl` is always k1, whose mean is the KL; `price` is the estimator the configuration chose.
    The policy's loss falls on `learnable` tokens, the critic's on `valued` ones.
    """

    credit: Credit
    kl: Float[Tensor, "batch time"]
    kl_penalty: Float[Tensor, "batch time"]
    rewards: Float[Tensor, "batch time"]
    policy_mask: Bool[Tensor, "batch time"]
    value_mask: Bool[Tensor, "batch time"]


def compute_targets(
    old: PolicyOutputs,
    reference_logprobs: Float[Tensor, "batch time"],
    response_mask: Bool[Tensor, "batch time"],
    truncated: Bool[Tensor, " batch"],
    reward: Float[Tensor, " batch"],
    kl_coefficient: float,
    settings: PPOSettings,
    full_kl: Float[Tensor, "batch time"] | None = None,
) -> PPOTargets:
    """Credit every sampled token.

    The reward of an answer falls on its last sampled token, the KL penalty on each token (unless the KL is
    paid in the loss). Returns are made before whitening. `truncated` answers lose their loss (mask), or
    earn V of the state they were cut at instead of their score (bootstrap). `full_kl` is needed for
    `kl_estimator: full`.
    """
    kl = torch.where(response_mask, k1(old.logprobs, reference_logprobs), 0.0)
    if settings.kl_estimator == "full":
        assert full_kl is not None
        kl_penalty = torch.where(response_mask, full_kl, 0.0)
    else:
        kl_penalty = torch.where(
            response_mask, ESTIMATORS[settings.kl_estimator](old.logprobs, reference_logprobs), 0.0
        )
    final_values = None
    if settings.truncated == "bootstrap":
        assert old.final_values is not None
        final_values = torch.where(truncated, old.final_values, 0.0)
        reward = torch.where(truncated, 0.0, reward)
    coefficient = 0.0 if settings.kl_in == "loss" else kl_coefficient
    rewards = token_rewards(reward, kl_penalty, response_mask, coefficient)
    policy_mask = response_mask & ~truncated[:, None] if settings.truncated == "mask" else response_mask
    advantages, returns, value_mask = _advantages(
        old, rewards, response_mask, policy_mask, final_values, settings
    )
    if settings.whitens and policy_mask.any():
        advantages = standardise(advantages, policy_mask)
    credit = Credit(old.logprobs, old.values, advantages, returns)
    return PPOTargets(credit, kl, kl_penalty, rewards, policy_mask, value_mask)


def _advantages(
    old: PolicyOutputs, rewards: Tensor, response_mask: Tensor, policy_mask: Tensor,
    final_values: Tensor | None, settings: PPOSettings,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Advantages, returns, and where the critic learns, each [batch, time]."""
    if settings.advantage == "gae":
        advantages = gae(rewards, old.values, response_mask, settings.gamma, settings.lam, final_values)
        return advantages, torch.where(response_mask, advantages + old.values, 0.0), policy_mask
    total = undiscounted_returns(rewards, response_mask)
    if final_values is not None:
        total = total + final_values
    returns = torch.where(response_mask, total[:, None], 0.0)
    if settings.advantage == "reward_minus_value":
        first = first_response_token(response_mask)
        baseline = torch.where(first, old.values, 0.0).sum(-1)
        spread = torch.where(response_mask, (total - baseline)[:, None], 0.0)
        return spread, returns, first & policy_mask
    counted = policy_mask.any(-1)
    against = group_advantages(total, counted, settings.samples_per_prompt, settings.advantage)
    return torch.where(response_mask, against[:, None], 0.0), returns, torch.zeros_like(response_mask)


def token_columns(
    old: PolicyOutputs,
    reference_logprobs: Float[Tensor, "batch time"],
    targets: PPOTargets,
    new_logprobs: Float[Tensor, "batch time"] | None,
    *,
    critic: bool,
) -> TokenColumns:
    """What is written of every token of an update, for `harken trace` and `harken replay`."""
    return TokenColumns(
        old_logprobs=old.logprobs,
        reference_logprobs=reference_logprobs,
        new_logprobs=new_logprobs,
        kl=targets.kl,
        kl_penalty=targets.kl_penalty,
        rewards=targets.rewards,
        values=old.values if critic else None,
        advantages=targets.credit.advantages,
        returns=targets.credit.returns,
        policy_mask=targets.policy_mask,
        value_mask=targets.value_mask,
    )
