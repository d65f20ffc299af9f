"""The losses of one optimiser step, and its statistics."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from harken.batches import PolicyOutputs
from harken.config.ppo import PPOSettings
from harken.maths.policy_loss import clipped_policy_loss, clipped_value_loss
from harken.train.ppo.minibatch import TokenCounts
from harken.train.ppo.targets import PPOTargets


def policy_loss(
    outputs: PolicyOutputs,
    targets: PPOTargets,
    settings: PPOSettings,
    stats: UpdateStats,
    kl_loss: Float[Tensor, "batch time"] | None = None,
) -> Float[Tensor, ""]:
    """Clipped loss − entropy_coef × entropy (+ `kl_loss`, coefficient included), *summed* over the policy mask.

    The caller divides by the optimiser step's count of tokens, so the result does not depend on how the step was split
    into micro-batches.
    """
    mask = targets.policy_mask
    logprobs, old_logprobs = outputs.logprobs[mask], targets.old_logprobs[mask]
    per_token = clipped_policy_loss(
        logprobs, old_logprobs, targets.advantages[mask], settings.clip_range, settings.clip_range_high
    )
    entropy = outputs.entropy[mask]
    with torch.no_grad():
        log_ratio = logprobs - old_logprobs
        ratio = log_ratio.exp()
        high = settings.clip_range if settings.clip_range_high is None else settings.clip_range_high
        clipped = (ratio > 1 + high) | (ratio < 1 - settings.clip_range)
        stats.add("policy/loss", per_token)
        stats.add("policy/entropy", entropy)
        stats.add("policy/approxkl", ratio - 1 - log_ratio)
        stats.add("policy/clipfrac", clipped.float())
        stats.add_ratio(ratio)
    if settings.entropy_coef:  # zero times the entropy would still cost its backward pass
        per_token = per_token - settings.entropy_coef * entropy
    if kl_loss is not None:
        stats.add("policy/kl_loss", kl_loss[mask])
        per_token = per_token + kl_loss[mask]
    stats.add("loss/total", per_token)
    return per_token.sum()


def value_loss(
    values: Float[Tensor, "batch time"], targets: PPOTargets, settings: PPOSettings, stats: UpdateStats
) -> Float[Tensor, ""]:
    """Clipped squared error of the critic, times vf_coef, *summed* over the value mask."""
    mask = targets.value_mask
    per_token = clipped_value_loss(
        values[mask], targets.old_values[mask], targets.returns[mask], settings.value_clip_range
    )
    stats.add("value/loss", per_token, critic=True)
    stats.add("loss/total", settings.vf_coef * per_token, critic=True)
    return settings.vf_coef * per_token.sum()


@dataclass
class UpdateStats:
    """Token means of an update's optimiser steps, each step weighted alike."""

    stopped_early: bool = False
    steps: list[dict[str, float]] = field(default_factory=list)
    ratio_gaps: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    _counts: TokenCounts = field(default_factory=lambda: TokenCounts(0, 0))

    def begin_step(self, counts: TokenCounts) -> None:
        """Begin an optimiser step over this many tokens."""
        self._counts = counts
        self.steps.append({})

    def restart_step(self) -> None:
        """Forget the means of the latest optimiser step; its largest ratio comes out the same."""
        self.steps[-1] = {}

    def end_step(self, grad_norm: float) -> None:
        """End the optimiser step."""
        self.norms.append(grad_norm)

    def add(self, name: str, per_token: Float[Tensor, " n"], critic: bool = False) -> None:
        """Add a micro-batch's share of a mean over the step's tokens."""
        step, count = self.steps[-1], self._counts.value if critic else self._counts.policy
        share = float(per_token.detach().sum()) / max(count, 1)
        step[name] = step.get(name, 0.0) + share

    def add_ratio(self, ratio: Float[Tensor, " n"]) -> None:
        """Keep the step's largest |ratio − 1|."""
        gap = float((ratio - 1).abs().max()) if len(ratio) else 0.0
        if len(self.ratio_gaps) < len(self.steps):
            self.ratio_gaps.append(gap)
        self.ratio_gaps[-1] = max(self.ratio_gaps[-1], gap)

    @property
    def latest_loss(self) -> float:
        """Loss of the latest optimiser step, as far as its micro-batches are done."""
        return self.steps[-1].get("loss/total", 0.0)

    @property
    def latest_approxkl(self) -> float:
        """KL(old‖new), nats per token, of the latest optimiser step (0 while only the critic trains)."""
        return self.steps[-1].get("policy/approxkl", 0.0)

    def metrics(self) -> dict[str, float]:
        """Average over the update. A correct PPO has `policy/first_ratio_gap` 0 up to rounding."""
        if not self.steps:
            return {"update/optimiser_steps": 0.0}
        names = dict.fromkeys(name for step in self.steps for name in step)
        mean = {name: sum(s[name] for s in self.steps if name in s) / len(self.steps) for name in names}
        metrics = {
            **mean,
            "grad_norm": sum(self.norms) / len(self.norms),
            "update/optimiser_steps": float(len(self.norms)),
            "update/stopped_early": float(self.stopped_early),
            "ppo_loss": mean["loss/total"],
        }
        if self.ratio_gaps:
            metrics |= {
                "policy/ratio_gap_max": max(self.ratio_gaps),
                "policy/first_ratio_gap": self.ratio_gaps[0],
                "policy/approxkl_last": self.latest_approxkl,
                "entropy": mean["policy/entropy"],
            }
        return metrics
