"""The loss of one PPO minibatch, and what is measured while it is computed."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from harken.batches import Credit, TokenEvaluation
from harken.config import PPOSettings
from harken.maths.policy_loss import clipped_policy_loss, clipped_value_loss


def minibatch_loss(
    now: TokenEvaluation,
    credit: Credit,
    learnable: Bool[Tensor, "batch time"],
    settings: PPOSettings,
    measures: StepMeasures,
) -> Float[Tensor, ""]:
    """Policy loss + vf_coef × value loss − entropy_coef × entropy, *summed* over the learnable tokens.

    The caller divides by the optimiser step's count of learnable tokens, so the result does not
    depend on how the step was split into micro-batches.
    """
    logprobs, old_logprobs = now.logprobs[learnable], credit.old_logprobs[learnable]
    policy = clipped_policy_loss(logprobs, old_logprobs, credit.advantages[learnable], settings.clip_range)
    value = clipped_value_loss(
        now.values[learnable],
        credit.old_values[learnable],
        credit.returns[learnable],
        settings.value_clip_range,
    )
    entropy = now.entropy[learnable]
    per_token = policy + settings.vf_coef * value
    if settings.entropy_coef:  # a zero times the entropy would still pay for its backward pass
        per_token = per_token - settings.entropy_coef * entropy
    with torch.no_grad():
        difference = logprobs - old_logprobs
        ratio = difference.exp()
        measures.add(
            {
                "policy/loss": policy,
                "value/loss": value,
                "policy/entropy": entropy,
                "policy/approxkl": ratio - 1 - difference,
                "policy/clipfrac": ((ratio - 1).abs() > settings.clip_range).float(),
                "loss/total": per_token,
            },
            float((ratio - 1).abs().max()) if len(ratio) else 0.0,
        )
    return per_token.sum()


@dataclass
class StepMeasures:
    """Token means of an update's optimiser steps, each step weighted alike."""

    stopped_early: bool = False
    steps: list[dict[str, float]] = field(default_factory=list)
    ratio_gaps: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    _count: int = 0

    def begin(self, count: int) -> None:
        """A new optimiser step over `count` tokens."""
        self._count = count
        self.steps.append({})
        self.ratio_gaps.append(0.0)

    def add(self, per_token: dict[str, Tensor], ratio_gap: float) -> None:
        """A micro-batch's values, one per token, and its largest |ratio − 1|."""
        step = self.steps[-1]
        for name, values in per_token.items():
            step[name] = step.get(name, 0.0) + float(values.detach().sum()) / self._count
        self.ratio_gaps[-1] = max(self.ratio_gaps[-1], ratio_gap)

    def end(self, grad_norm: float) -> None:
        """The optimiser step is done."""
        self.norms.append(grad_norm)

    @property
    def latest_approxkl(self) -> float:
        """KL(old‖new), nats per token, of the optimiser step just done."""
        return self.steps[-1]["policy/approxkl"]

    def metrics(self) -> dict[str, float]:
        """Means over the update. `policy/first_ratio_gap` is 0 up to rounding in a right PPO (property 28)."""
        if not self.steps:
            return {"update/optimiser_steps": 0.0}
        mean = {name: sum(s[name] for s in self.steps) / len(self.steps) for name in self.steps[0]}
        return {
            **mean,
            "policy/ratio_gap_max": max(self.ratio_gaps),
            "policy/first_ratio_gap": self.ratio_gaps[0],
            "policy/approxkl_last": self.latest_approxkl,
            "grad_norm": sum(self.norms) / len(self.norms),
            "update/optimiser_steps": float(len(self.norms)),
            "update/stopped_early": float(self.stopped_early),
            "ppo_loss": mean["loss/total"],
            "entropy": mean["policy/entropy"],
        }
