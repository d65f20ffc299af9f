"""The losses of one optimiser step, and what they say about it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from harken.batches import Credit, PolicyOutputs
from harken.config.ppo import PPOSettings
from harken.maths.policy_loss import clipped_policy_loss, clipped_value_loss


def policy_loss(
    now: PolicyOutputs,
    credit: Credit,
    policy_mask: Bool[Tensor, "batch time"],
    settings: PPOSettings,
    measures: StepMeasures,
    kl_loss: Float[Tensor, "batch time"] | None = None,
) -> Float[Tensor, ""]:
    """Clipped loss − entropy_coef × entropy (+ `kl_price`, coefficient included), *summed* over the learnable tokens.

    The caller divides by the optimiser step's count of learnable tokens, so the result does not
    depend on how the step was split into micro-batches.
    """
    logprobs, old_logprobs = now.logprobs[policy_mask], credit.old_logprobs[policy_mask]
    per_token = clipped_policy_loss(
        logprobs, old_logprobs, credit.advantages[policy_mask], settings.clip_range, settings.clip_range_high
    )
    entropy = now.entropy[policy_mask]
    with torch.no_grad():
        difference = logprobs - old_logprobs
        ratio = difference.exp()
        high = settings.clip_range if settings.clip_range_high is None else settings.clip_range_high
        outside = (ratio > 1 + high) | (ratio < 1 - settings.clip_range)
        measures.add("policy/loss", per_token)
        measures.add("policy/entropy", entropy)
        measures.add("policy/approxkl", ratio - 1 - difference)
        measures.add("policy/clipfrac", outside.float())
        measures.ratio(ratio)
    if settings.entropy_coef:  # a zero times the entropy would still pay for its backward pass
        per_token = per_token - settings.entropy_coef * entropy
    if kl_loss is not None:
        kl_penalty = kl_loss[policy_mask]
        measures.add("policy/kl_loss", kl_penalty)
        per_token = per_token + kl_penalty
    measures.add("loss/total", per_token)
    return per_token.sum()


def value_loss(
    values: Float[Tensor, "batch time"],
    credit: Credit,
    value_mask: Bool[Tensor, "batch time"],
    settings: PPOSettings,
    measures: StepMeasures,
) -> Float[Tensor, ""]:
    """The clipped squared error of the critic, times vf_coef, *summed* over the tokens it learns from."""
    per_token = clipped_value_loss(
        values[value_mask],
        credit.old_values[value_mask],
        credit.returns[value_mask],
        settings.value_clip_range,
    )
    measures.add("value/loss", per_token, of_critic=True)
    measures.add("loss/total", settings.vf_coef * per_token, of_critic=True)
    return settings.vf_coef * per_token.sum()


@dataclass
class StepMeasures:
    """Token means of an update's optimiser steps, each step weighted alike."""

    stopped_early: bool = False
    steps: list[dict[str, float]] = field(default_factory=list)
    ratio_gaps: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    _counts: tuple[int, int] = (0, 0)

    def begin(self, policy_mask: int, value_mask: int) -> None:
        """A new optimiser step over so many tokens of the policy and of the critic."""
        self._counts = (policy_mask, value_mask)
        self.steps.append({})

    def add(self, name: str, per_token: Float[Tensor, " n"], of_critic: bool = False) -> None:
        """A micro-batch's share of a mean over the step's tokens."""
        step = self.steps[-1]
        share = float(per_token.detach().sum()) / max(self._counts[of_critic], 1)
        step[name] = step.get(name, 0.0) + share

    def ratio(self, ratio: Float[Tensor, " n"]) -> None:
        """Keeps the step's largest |ratio − 1|."""
        gap = float((ratio - 1).abs().max()) if len(ratio) else 0.0
        if len(self.ratio_gaps) < len(self.steps):
            self.ratio_gaps.append(gap)
        self.ratio_gaps[-1] = max(self.ratio_gaps[-1], gap)

    def again(self) -> None:
        """The latest optimiser step starts anew, and so do its means; its largest ratio comes out the same."""
        self.steps[-1] = {}

    def end(self, grad_norm: float) -> None:
        """The optimiser step is done."""
        self.norms.append(grad_norm)

    @property
    def latest_loss(self) -> float:
        """Of the latest optimiser step, as far as its micro-batches are done."""
        return self.steps[-1].get("loss/total", 0.0)

    @property
    def latest_approxkl(self) -> float:
        """KL(old‖new), nats per token, as the latest optimiser step found it (0 while the critic learns alone)."""
        return self.steps[-1].get("policy/approxkl", 0.0)

    def metrics(self) -> dict[str, float]:
        """Means over the update. `policy/first_ratio_gap` is 0 up to rounding in a right PPO (property 28)."""
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
