"""From one score an answer to an advantage a token. Not an action: not read, and 0."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from harken.maths.masked import masked_mean


def token_rewards(
    reward: Float[Tensor, " batch"],
    kl: Float[Tensor, "batch time"],
    response_mask: Bool[Tensor, "batch time"],
    kl_coefficient: float,
) -> Float[Tensor, "batch time"]:
    """Every sampled token pays for its KL; the last one of a row (its end-of-turn token) earns the reward.

        r_t = -kl_coefficient × kl_t + [t is the last sampled token] × reward

    A row without a sampled token gets nothing.
    Source: Ouyang et al. 2022 (arXiv:2203.02155) eq. 2; per token in Huang et al. 2024 (arXiv:2403.17031).
    """
    position = torch.arange(response_mask.shape[1], device=response_mask.device)
    last = torch.where(response_mask, position, -1).amax(dim=1, keepdim=True)
    kl_penalty = -kl_coefficient * torch.where(response_mask, kl, 0.0)
    return kl_penalty + torch.where(position == last, reward.unsqueeze(1), 0.0)


def gae(
    rewards: Float[Tensor, "batch time"],
    values: Float[Tensor, "batch time"],
    response_mask: Bool[Tensor, "batch time"],
    gamma: float,
    lam: float,
    final_values: Float[Tensor, " batch"] | None = None,
) -> Float[Tensor, "batch time"]:
    """Generalised advantage estimation over the sampled tokens, in order.

        delta_t = r_t + gamma V_{t+1} - V_t        A_t = delta_t + gamma lam A_{t+1}

    "t+1" is the next *sampled* token; after the last, A = 0 and V is the row's entry of `final_values`:
    0, or what would still have come of an answer that was cut short. 0 where action is False.
    Source: Schulman et al. 2016 (arXiv:1506.02438) eq. 16.
    """
    device = values.device
    # Small steps one after the other: on a GPU launching them took a seventh of an update.
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
    """The sum of an answer's token rewards: its undiscounted return."""
    return torch.where(response_mask, rewards, 0.0).sum(-1)


def first_response_token(response_mask: Bool[Tensor, "batch time"]) -> Bool[Tensor, "batch time"]:
    """True at the first sampled token of each row: the place whose value is V(prompt)."""
    return response_mask & (response_mask.cumsum(-1) == 1)


def group_advantages(
    returns: Float[Tensor, " batch"], counted: Bool[Tensor, " batch"], group_size: int, kind: str
) -> Float[Tensor, " batch"]:
    """An answer's return against the other answers to the same prompt: no critic.

        rloo    A_i = R_i - mean of the others
        grpo    A_i = (R_i - mean) / (standard deviation + 1e-6), both over the group, i included

    Rows i × group_size … are one group. Rows not `counted` take no part and get 0, as does one that is
    alone. The deviation is the biased one (÷ n). RLOO is unbiased; GRPO's mean includes i and its
    deviation weights prompts unevenly, so it is not (docs/theory.md).
    Sources: Ahmadian et al. 2024 (arXiv:2402.14740) eq. 5; Shao et al. 2024 (arXiv:2402.03300) section 4.1.2.
    """
    grouped, takes_part = returns.view(-1, group_size), counted.view(-1, group_size)
    among = takes_part.sum(-1, keepdim=True)
    held = torch.where(takes_part, grouped, 0.0)
    if kind == "rloo":
        baseline = (held.sum(-1, keepdim=True) - held) / (among - 1).clamp(min=1)
        advantages = grouped - baseline
    else:
        centred = torch.where(takes_part, grouped - held.sum(-1, keepdim=True) / among.clamp(min=1), 0.0)
        deviation = (centred.square().sum(-1, keepdim=True) / among.clamp(min=1)).sqrt()
        advantages = centred / (deviation + 1e-6)
    return torch.where(takes_part & (among > 1), advantages, 0.0).reshape(-1)


def explained_variance(
    values: Float[Tensor, "batch time"],
    returns: Float[Tensor, "batch time"],
    response_mask: Bool[Tensor, "batch time"],
) -> Float[Tensor, ""]:
    """1 - Var(returns - values) / Var(returns) over the sampled tokens.

    1: the critic foresees every return. 0: no better than a constant. Below 0: worse than one.
    0 as well when the returns do not vary, for then there is nothing to explain.
    """
    spread = _variance(returns, response_mask)
    left = _variance(returns - values, response_mask)
    return torch.where(spread > 0, 1.0 - left / spread, 0.0)


def _variance(x: Float[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]) -> Float[Tensor, ""]:
    return masked_mean((x - masked_mean(x, mask)).square(), mask)
