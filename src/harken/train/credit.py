"""From scores to what PPO learns from: KL in the reward, advantages, returns, whitening."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from harken.batches import Credit, TokenEvaluation
from harken.config_ppo import PPOSettings
from harken.maths.advantage import first_action, gae, group_advantages, token_rewards, totals
from harken.maths.kl import ESTIMATORS, k1
from harken.maths.masked import standardise
from harken.run.credit_table import TokenColumns


@dataclass(frozen=True)
class Assigned:
    """The credit of one rollout batch and the quantities worth reporting.

    `kl` is always k1, whose mean is the KL; `price` is the estimator the configuration chose.
    The policy's loss falls on `learnable` tokens, the critic's on `valued` ones.
    """

    credit: Credit
    kl: Float[Tensor, "batch time"]
    price: Float[Tensor, "batch time"]
    rewards: Float[Tensor, "batch time"]
    learnable: Bool[Tensor, "batch time"]
    valued: Bool[Tensor, "batch time"]


def assign_credit(
    old: TokenEvaluation,
    reference_logprobs: Float[Tensor, "batch time"],
    action: Bool[Tensor, "batch time"],
    truncated: Bool[Tensor, " batch"],
    reward: Float[Tensor, " batch"],
    kl_coefficient: float,
    settings: PPOSettings,
    full_kl: Float[Tensor, "batch time"] | None = None,
) -> Assigned:
    """Credit every sampled token.

    The reward of an answer falls on its last sampled token, the KL penalty on each token (unless the KL is
    paid in the loss). Returns are made before whitening. `truncated` answers lose their loss (mask), or
    earn V of the state they were cut at instead of their score (bootstrap). `full_kl` is needed for
    `kl_estimator: full`.
    """
    kl = torch.where(action, k1(old.logprobs, reference_logprobs), 0.0)
    if settings.kl_estimator == "full":
        assert full_kl is not None
        price = torch.where(action, full_kl, 0.0)
    else:
        price = torch.where(action, ESTIMATORS[settings.kl_estimator](old.logprobs, reference_logprobs), 0.0)
    final_values = None
    if settings.truncated == "bootstrap":
        assert old.final_values is not None
        final_values = torch.where(truncated, old.final_values, 0.0)
        reward = torch.where(truncated, 0.0, reward)
    coefficient = 0.0 if settings.kl_in == "loss" else kl_coefficient
    rewards = token_rewards(reward, price, action, coefficient)
    learnable = action & ~truncated[:, None] if settings.truncated == "mask" else action
    advantages, returns, valued = _advantages(old, rewards, action, learnable, final_values, settings)
    if settings.whitens and learnable.any():
        advantages = standardise(advantages, learnable)
    credit = Credit(old.logprobs, old.values, advantages, returns)
    return Assigned(credit, kl, price, rewards, learnable, valued)


def _advantages(
    old: TokenEvaluation, rewards: Tensor, action: Tensor, learnable: Tensor,
    final_values: Tensor | None, settings: PPOSettings,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Advantages, returns, and where the critic learns, each [batch, time]."""
    if settings.advantage == "gae":
        advantages = gae(rewards, old.values, action, settings.gamma, settings.lam, final_values)
        return advantages, torch.where(action, advantages + old.values, 0.0), learnable
    total = totals(rewards, action)
    if final_values is not None:
        total = total + final_values
    returns = torch.where(action, total[:, None], 0.0)
    if settings.advantage == "reward_minus_value":
        first = first_action(action)
        baseline = torch.where(first, old.values, 0.0).sum(-1)
        spread = torch.where(action, (total - baseline)[:, None], 0.0)
        return spread, returns, first & learnable
    counted = learnable.any(-1)
    against = group_advantages(total, counted, settings.samples_per_prompt, settings.advantage)
    return torch.where(action, against[:, None], 0.0), returns, torch.zeros_like(action)


def token_columns(
    old: TokenEvaluation,
    reference_logprobs: Float[Tensor, "batch time"],
    assigned: Assigned,
    new_logprobs: Float[Tensor, "batch time"] | None,
    *,
    critic: bool,
) -> TokenColumns:
    """What is written of every token of an update, for `harken trace` and `harken replay`."""
    return TokenColumns(
        old_logprobs=old.logprobs,
        reference_logprobs=reference_logprobs,
        new_logprobs=new_logprobs,
        kl=assigned.kl,
        price=assigned.price,
        rewards=assigned.rewards,
        values=old.values if critic else None,
        advantages=assigned.credit.advantages,
        returns=assigned.credit.returns,
        learnable=assigned.learnable,
        valued=assigned.valued,
    )
