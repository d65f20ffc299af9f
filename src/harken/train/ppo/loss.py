"""Compute the losses of one optimiser step, and collect its statistics."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from harken.batches import PolicyOutputs
from harken.config.ppo import PPOSettings
from harken.maths.policy_loss import (
    clipped_policy_loss,
    clipped_value_loss,
    response_weights,
    sequence_log_ratio,
)
from harken.train.ppo.minibatch import TokenCounts
from harken.train.ppo.targets import PPOTargets


def policy_loss(
    outputs: PolicyOutputs,
    targets: PPOTargets,
    settings: PPOSettings,
    stats: UpdateStats,
    kl_loss: Float[Tensor, "batch time"] | None = None,
) -> Float[Tensor, ""]:
    """Compute clipped loss − entropy_coef × entropy (+ `kl_loss`, coefficient included), *summed* over tokens.

    The caller divides by the optimiser step's `policy_divisor`, so the result does not depend on the split into
    micro-batches. With `loss_aggregation: sequence` each token is weighted by 1 / tokens of its response.
    """
    mask = targets.policy_mask
    logprobs, old_logprobs = outputs.logprobs[mask], targets.old_logprobs[mask]
    advantages, clip = targets.advantages[mask], (settings.clip_range, settings.clip_range_high)
    weights = response_weights(mask)[mask] if settings.loss_aggregation == "sequence" else None
    divisor = policy_divisor(stats.counts, settings)
    with torch.no_grad():
        log_ratio = logprobs - old_logprobs
        ratio = log_ratio.exp()
        approxkl = ratio - 1 - log_ratio
    if settings.importance_sampling_level == "sequence":
        log_ratio = sequence_log_ratio(outputs.logprobs, targets.old_logprobs, mask)[mask]
        per_token = clipped_policy_loss(log_ratio, torch.zeros_like(log_ratio), advantages, *clip)
        ratio = log_ratio.detach().exp()
    else:
        per_token = clipped_policy_loss(logprobs, old_logprobs, advantages, *clip)
    entropy = outputs.entropy[mask]
    with torch.no_grad():
        high = settings.clip_range if settings.clip_range_high is None else settings.clip_range_high
        clipped = (ratio > 1 + high) | (ratio < 1 - settings.clip_range)
        stats.add_loss("policy/loss", per_token, weights, divisor)
        stats.add("policy/entropy", entropy)
        stats.add("policy/approxkl", approxkl)
        stats.add("policy/clipfrac", clipped.float())
        stats.add_ratio(ratio)
    if settings.entropy_coef:  # without this test, 0 × entropy would still cost a backward pass
        per_token = per_token - settings.entropy_coef * entropy
    if kl_loss is not None:
        stats.add_loss("policy/kl_loss", kl_loss[mask], weights, divisor)
        per_token = per_token + kl_loss[mask]
    stats.add_loss("loss/total", per_token, weights, divisor)
    return per_token.sum() if weights is None else (weights * per_token).sum()


def policy_divisor(counts: TokenCounts, settings: PPOSettings) -> int:
    """Return the divisor of an optimiser step's summed policy loss.

        token     number of tokens                     Yu et al. 2025 (arXiv:2503.14476) eq. 8 (DAPO)
        sequence  number of responses                  Shao et al. 2024 (arXiv:2402.03300) eq. 3 (GRPO)
        constant  number of responses × max_gen_len    Liu et al. 2025 (arXiv:2503.20783) section 3.2 (Dr. GRPO)

    Only tokens and responses in the policy loss count: not truncated ones that `truncated: mask` leaves out, and not
    the groups that `drop_uniform_groups` drops.
    """
    if settings.loss_aggregation == "token":
        return counts.policy
    return counts.responses * (settings.max_gen_len if settings.loss_aggregation == "constant" else 1)


def value_loss(
    values: Float[Tensor, "batch time"], targets: PPOTargets, settings: PPOSettings, stats: UpdateStats
) -> Float[Tensor, ""]:
    """Compute vf_coef × the critic's clipped squared error, *summed* over the value mask."""
    mask = targets.value_mask
    per_token = clipped_value_loss(
        values[mask], targets.old_values[mask], targets.returns[mask], settings.value_clip_range
    )
    stats.add("value/loss", per_token, critic=True)
    stats.add("loss/total", settings.vf_coef * per_token, critic=True)
    return settings.vf_coef * per_token.sum()


@dataclass
class UpdateStats:
    """Average an update's optimiser steps: over tokens within a step, then over steps with equal weight."""

    stopped_early: bool = False
    steps: list[dict[str, float]] = field(default_factory=list)
    max_ratio_gaps: list[float] = field(default_factory=list)
    grad_norms: list[float] = field(default_factory=list)
    counts: TokenCounts = field(default_factory=lambda: TokenCounts(0, 0, 0))
    """Statistics of the latest optimiser step."""

    def begin_step(self, counts: TokenCounts) -> None:
        """Begin an optimiser step over `counts` tokens."""
        self.counts = counts
        self.steps.append({})

    def restart_step(self) -> None:
        """Reset the latest optimiser step's means. `max_ratio_gaps` is kept: the retry computes the same ratios."""
        self.steps[-1] = {}

    def end_step(self, grad_norm: float) -> None:
        """Record the gradient norm of an optimiser step that was taken."""
        self.grad_norms.append(grad_norm)

    def add(self, name: str, per_token: Float[Tensor, " n"], critic: bool = False) -> None:
        """Add a micro-batch's contribution to a mean over the step's tokens."""
        self.add_loss(name, per_token, None, self.counts.value if critic else self.counts.policy)

    def add_loss(
        self, name: str, per_token: Float[Tensor, " n"], weights: Float[Tensor, " n"] | None, divisor: int
    ) -> None:
        """Add a micro-batch's contribution to a loss: its (weighted) sum over tokens, divided by `divisor`."""
        step, values = self.steps[-1], per_token.detach()
        total = values.sum() if weights is None else (weights * values).sum()
        step[name] = step.get(name, 0.0) + float(total) / max(divisor, 1)

    def add_ratio(self, ratio: Float[Tensor, " n"]) -> None:
        """Update the step's largest |ratio − 1|."""
        gap = float((ratio - 1).abs().max()) if len(ratio) else 0.0
        if len(self.max_ratio_gaps) < len(self.steps):
            self.max_ratio_gaps.append(gap)
        self.max_ratio_gaps[-1] = max(self.max_ratio_gaps[-1], gap)

    @property
    def latest_loss(self) -> float:
        """Loss of the latest optimiser step, summed over the micro-batches so far."""
        return self.steps[-1].get("loss/total", 0.0)

    @property
    def latest_approxkl(self) -> float:
        """KL(old‖new), nats per token, of the latest optimiser step (0 if only the critic trains)."""
        return self.steps[-1].get("policy/approxkl", 0.0)

    def metrics(self) -> dict[str, float]:
        """Return the averages over the update. `policy/first_ratio_gap` must be 0 up to rounding."""
        if not self.steps:
            return {"update/optimiser_steps": 0.0}
        names = dict.fromkeys(name for step in self.steps for name in step)
        mean = {name: sum(s[name] for s in self.steps if name in s) / len(self.steps) for name in names}
        metrics = {
            **mean,
            "grad_norm": sum(self.grad_norms) / len(self.grad_norms),
            "update/optimiser_steps": float(len(self.grad_norms)),
            "update/stopped_early": float(self.stopped_early),
            "ppo_loss": mean["loss/total"],
        }
        if self.max_ratio_gaps:
            metrics |= {
                "policy/ratio_gap_max": max(self.max_ratio_gaps),
                "policy/first_ratio_gap": self.max_ratio_gaps[0],
                "policy/approxkl_last": self.latest_approxkl,
                "entropy": mean["policy/entropy"],
            }
        return metrics
