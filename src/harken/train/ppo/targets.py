"""Compute PPO's targets from scores: KL penalty, token rewards, advantages, returns, whitening."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from harken.batches import PolicyOutputs
from harken.config.ppo import PPOSettings
from harken.maths.advantage import (
    first_response_token,
    gae,
    group_advantages,
    token_rewards,
    undiscounted_returns,
)
from harken.maths.kl import ESTIMATORS, k1
from harken.maths.masked import whiten
from harken.run.credit_table import TokenColumns
from harken.train.ppo.groups import rows_with_spread


@dataclass(frozen=True)
class PPOTargets:
    """The targets of a rollout batch: computed once, and fixed for all its epochs.

    The policy loss is summed over `policy_mask`, the value loss over `value_mask`. All tensors are undefined outside
    the response. `kl` is always k1, whose mean is the KL; `kl_estimate` is by the configured estimator.
    """

    old_logprobs: Float[Tensor, "batch time"]
    old_values: Float[Tensor, "batch time"]
    advantages: Float[Tensor, "batch time"]
    returns: Float[Tensor, "batch time"]
    policy_mask: Bool[Tensor, "batch time"]
    value_mask: Bool[Tensor, "batch time"]
    rewards: Float[Tensor, "batch time"]
    kl: Float[Tensor, "batch time"]
    kl_estimate: Float[Tensor, "batch time"]

    def select(self, index: Sequence[int], width: int) -> PPOTargets:
        """Select rows, and their first `width` tokens, as `TokenBatch.select` does."""
        where = torch.as_tensor(list(index), device=self.returns.device)
        return PPOTargets(*(getattr(self, field.name)[where, :width] for field in fields(self)))


def compute_targets(
    old: PolicyOutputs,
    ref_logprobs: Float[Tensor, "batch time"],
    response_mask: Bool[Tensor, "batch time"],
    truncated: Bool[Tensor, " batch"],
    reward: Float[Tensor, " batch"],
    kl_coef: float,
    settings: PPOSettings,
    full_kl: Float[Tensor, "batch time"] | None = None,
) -> PPOTargets:
    """Compute token rewards, advantages and returns of a rollout batch.

    A response's `reward` is added to its last token, the KL penalty to every token (unless the KL is only in the loss).
    Returns are computed before whitening. `truncated` responses are left out of the loss (mask), or the value of their
    last state replaces their score (bootstrap). `drop_uniform_groups` leaves out groups whose rewards are all equal.
    `kl_estimator: full` needs `full_kl`.
    """
    kl = torch.where(response_mask, k1(old.logprobs, ref_logprobs), 0.0)
    kl_estimate = _kl_estimate(old.logprobs, ref_logprobs, response_mask, settings, full_kl)
    final_values = None
    if settings.truncated == "bootstrap":
        assert old.final_values is not None
        final_values = torch.where(truncated, old.final_values, 0.0)
        reward = torch.where(truncated, 0.0, reward)
    rewards = token_rewards(reward, kl_estimate, response_mask, 0.0 if settings.kl_in == "loss" else kl_coef)
    policy_mask = response_mask & ~truncated[:, None] if settings.truncated == "mask" else response_mask
    if settings.drop_uniform_groups:
        policy_mask = policy_mask & rows_with_spread(reward, truncated, settings)[:, None]
    advantages, returns, value_mask = _advantages(
        old, rewards, response_mask, policy_mask, final_values, settings
    )
    if settings.whitens and policy_mask.any():
        advantages = whiten(advantages, policy_mask)
    return PPOTargets(
        old.logprobs, old.values, advantages, returns, policy_mask, value_mask, rewards, kl, kl_estimate
    )


def _kl_estimate(
    logprobs: Tensor,
    ref_logprobs: Tensor,
    response_mask: Tensor,
    settings: PPOSettings,
    full_kl: Tensor | None,
) -> Float[Tensor, "batch time"]:
    if settings.kl_estimator == "full":
        assert full_kl is not None
        return torch.where(response_mask, full_kl, 0.0)
    return torch.where(response_mask, ESTIMATORS[settings.kl_estimator](logprobs, ref_logprobs), 0.0)


def _advantages(
    old: PolicyOutputs, rewards: Tensor, response_mask: Tensor, policy_mask: Tensor,
    final_values: Tensor | None, settings: PPOSettings,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Compute advantages, returns and the critic's mask, each [batch, time]."""
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
        advantages = torch.where(response_mask, (total - baseline)[:, None], 0.0)
        return advantages, returns, first & policy_mask
    in_loss = policy_mask.any(-1)
    per_response = group_advantages(
        total, in_loss, settings.samples_per_prompt, settings.advantage, settings.reward_scale
    )
    return torch.where(response_mask, per_response[:, None], 0.0), returns, torch.zeros_like(response_mask)


def token_columns(
    targets: PPOTargets,
    ref_logprobs: Float[Tensor, "batch time"],
    new_logprobs: Float[Tensor, "batch time"] | None,
    entropies: Float[Tensor, "batch time"] | None = None,
    *,
    critic: bool,
) -> TokenColumns:
    """Collect the per-token columns that `harken trace` and `harken replay` read."""
    return TokenColumns(
        old_logprobs=targets.old_logprobs,
        reference_logprobs=ref_logprobs,
        new_logprobs=new_logprobs,
        kl=targets.kl,
        kl_penalty=targets.kl_estimate,
        rewards=targets.rewards,
        values=targets.old_values if critic else None,
        advantages=targets.advantages,
        returns=targets.returns,
        policy_mask=targets.policy_mask,
        value_mask=targets.value_mask,
        entropies=entropies,
    )
