"""Compute per-token rewards and advantages. Positions outside the response mask are ignored and set to 0."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from harken.maths.masked import masked_mean


def token_rewards(
    reward: Float[Tensor, " batch"],
    kl: Float[Tensor, "batch time"],
    response_mask: Bool[Tensor, "batch time"],
    kl_coef: float,
) -> Float[Tensor, "batch time"]:
    """Compute per-token rewards: a KL penalty on each token, and the score on the last sampled token of a row.

        r_t = -kl_coef × kl_t + [t is the last sampled token] × reward

    A row without sampled tokens has rewards of 0.
    Source: Ouyang et al. 2022 (arXiv:2203.02155) eq. 2; per token in Huang et al. 2024 (arXiv:2403.17031).
    """
    position = torch.arange(response_mask.shape[1], device=response_mask.device)
    last = torch.where(response_mask, position, -1).amax(dim=1, keepdim=True)
    kl_penalty = -kl_coef * torch.where(response_mask, kl, 0.0)
    return kl_penalty + torch.where(position == last, reward.unsqueeze(1), 0.0)


def gae(
    rewards: Float[Tensor, "batch time"],
    values: Float[Tensor, "batch time"],
    response_mask: Bool[Tensor, "batch time"],
    gamma: float,
    lam: float,
    final_values: Float[Tensor, " batch"] | None = None,
) -> Float[Tensor, "batch time"]:
    """Compute generalised advantage estimates over the sampled tokens.

        delta_t = r_t + gamma V_{t+1} - V_t        A_t = delta_t + gamma lam A_{t+1}

    "t+1" is the next *sampled* token. After the last one A = 0, and V is the row's entry of `final_values`: the
    bootstrap value of a truncated response, else 0. Advantages are 0 where `response_mask` is False.
    Source: Schulman et al. 2016 (arXiv:1506.02438) eq. 16.
    """
    device = values.device
    # On the CPU: on a GPU, launching these small sequential kernels took a seventh of an update.
    rewards, values, response_mask = rewards.cpu(), values.cpu(), response_mask.cpu()
    next_value = torch.zeros_like(values[:, 0]) if final_values is None else final_values.cpu()
    next_advantage = torch.zeros_like(next_value)
    advantages = torch.zeros_like(values)
    for t in reversed(response_mask.any(0).nonzero()[:, 0].tolist()):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        advantage = delta + gamma * lam * next_advantage
        advantages[:, t] = torch.where(response_mask[:, t], advantage, 0.0)
        next_value = torch.where(response_mask[:, t], values[:, t], next_value)
        next_advantage = torch.where(response_mask[:, t], advantage, next_advantage)
    return advantages.to(device)


def undiscounted_returns(
    rewards: Float[Tensor, "batch time"], response_mask: Bool[Tensor, "batch time"]
) -> Float[Tensor, " batch"]:
    """Compute the undiscounted return of each response: the sum of its token rewards."""
    return torch.where(response_mask, rewards, 0.0).sum(-1)


def first_response_token(response_mask: Bool[Tensor, "batch time"]) -> Bool[Tensor, "batch time"]:
    """Mark the first sampled token of each row, where the value is V(prompt)."""
    return response_mask & (response_mask.cumsum(-1) == 1)


def group_advantages(
    returns: Float[Tensor, " batch"],
    valid: Bool[Tensor, " batch"],
    group_size: int,
    kind: str,
    scale: str | None = None,
) -> Float[Tensor, " batch"]:
    """Compute advantages relative to the other responses to the same prompt, without a critic.

        A_i = (R_i - baseline) / scale

        kind rloo    baseline: mean of the group without i
        any other    baseline: mean of the group, i included
        scale group  standard deviation of the group + 1e-6 (default of `kind` grpo)
        scale batch  standard deviation of all returns + 1e-6
        scale none   1 (default of any other `kind`)

    Rows i × group_size … (i + 1) × group_size - 1 are one group. Rows that are not `valid` are left out and get 0, as
    does the only valid row of a group. Standard deviations are biased (÷ n). RLOO is unbiased. GRPO is biased: its mean
    includes i, and its deviation weights prompts unevenly (docs/theory.md), which scale `none` leaves out.
    Sources: Ahmadian et al. 2024 (arXiv:2402.14740) eq. 5; Shao et al. 2024 (arXiv:2402.03300) section 4.1.2; no scale:
    Liu et al. 2025 (arXiv:2503.20783) section 3.2; the batch's: Liu et al. 2025 (arXiv:2508.08221) section 4.1.
    """
    scale = scale or ("group" if kind == "grpo" else "none")
    grouped, mask = returns.view(-1, group_size), valid.view(-1, group_size)
    count = mask.sum(-1, keepdim=True)
    masked = torch.where(mask, grouped, 0.0)
    centred = torch.where(mask, grouped - masked.sum(-1, keepdim=True) / count.clamp(min=1), 0.0)
    advantages = centred
    if kind == "rloo":
        advantages = grouped - (masked.sum(-1, keepdim=True) - masked) / (count - 1).clamp(min=1)
    if scale == "group":
        std = (centred.square().sum(-1, keepdim=True) / count.clamp(min=1)).sqrt()
        advantages = advantages / (std + 1e-6)
    elif scale == "batch":
        advantages = advantages / (_variance(returns, valid).sqrt() + 1e-6)
    return torch.where(mask & (count > 1), advantages, 0.0).reshape(-1)


def groups_with_spread(
    rewards: Float[Tensor, " batch"], valid: Bool[Tensor, " batch"], group_size: int
) -> Bool[Tensor, " groups"]:
    """Mark the groups in which two valid rewards differ by more than 1e-6: the others give no gradient.

    Groups are as in `group_advantages`. `rewards` are without the KL penalty, which would give every group a spread.
    Source: Yu et al. 2025 (arXiv:2503.14476) eq. 11, for rewards that are right or wrong.
    """
    grouped, mask = rewards.view(-1, group_size), valid.view(-1, group_size)
    highest = torch.where(mask, grouped, -torch.inf).amax(-1)
    lowest = torch.where(mask, grouped, torch.inf).amin(-1)
    return highest - lowest > 1e-6


def explained_variance(
    values: Float[Tensor, "batch time"],
    returns: Float[Tensor, "batch time"],
    response_mask: Bool[Tensor, "batch time"],
) -> Float[Tensor, ""]:
    """Compute 1 - Var(returns - values) / Var(returns) over the sampled tokens.

    1: the critic predicts every return. 0: no better than a constant. Below 0: worse than a constant.
    Also 0 when the returns do not vary.
    """
    variance = _variance(returns, response_mask)
    residual = _variance(returns - values, response_mask)
    return torch.where(variance > 0, 1.0 - residual / variance, 0.0)


def _variance(x: Float[Tensor, "*shape"], mask: Bool[Tensor, "*shape"]) -> Float[Tensor, ""]:
    return masked_mean((x - masked_mean(x, mask)).square(), mask)
