"""Find the groups of responses whose rewards are all equal, which give a group baseline no gradient."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

from harken.config.ppo import PPOSettings
from harken.maths.advantage import groups_with_spread


def rows_with_spread(
    reward: Float[Tensor, " batch"], truncated: Bool[Tensor, " batch"], settings: PPOSettings
) -> Bool[Tensor, " batch"]:
    """Mark the responses of groups whose rewards differ. `reward` is without the KL penalty."""
    return _spread(reward, truncated, settings).repeat_interleave(settings.samples_per_prompt)


def group_metrics(
    reward: Float[Tensor, " batch"], truncated: Bool[Tensor, " batch"], settings: PPOSettings
) -> dict[str, float]:
    """Return the share of groups without spread, and how many were dropped; {} without a group baseline."""
    if not settings.group_baseline:
        return {}
    spread = _spread(reward, truncated, settings)
    uniform = int((~spread).sum())
    metrics = {"group/zero_spread_frac": uniform / len(spread)}
    return metrics | ({"group/dropped": float(uniform)} if settings.drop_uniform_groups else {})


def _spread(reward: Tensor, truncated: Tensor, settings: PPOSettings) -> Tensor:
    """Mark the groups with spread, among the responses that `truncated: mask` leaves in the loss."""
    in_loss = ~truncated if settings.truncated == "mask" else truncated | True
    return groups_with_spread(reward, in_loss, settings.samples_per_prompt)
