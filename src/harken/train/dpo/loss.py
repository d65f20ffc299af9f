"""Compute the configured loss of preference examples from their scores under policy and reference."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from harken.config.preference_training import PreferenceLossSettings
from harken.maths import preference_optimisation as losses
from harken.maths.preference_optimisation import PairLoss


@dataclass(frozen=True)
class ExampleScores:
    """The scores of examples, [examples, 2]: log-probabilities of `first` and `second`, as the loss takes them.

    `nll` is the mean negative log-likelihood per token of `first`.
    """

    policy: Float[Tensor, "examples 2"]
    reference: Float[Tensor, "examples 2"]
    nll: Float[Tensor, " examples"]

    @property
    def logratios(self) -> Float[Tensor, "examples 2"]:
        """The policy's scores minus the reference's, nats."""
        return self.policy - self.reference


def example_losses(
    settings: PreferenceLossSettings,
    scores: ExampleScores,
    label: Float[Tensor, " examples"],
    kl: Float[Tensor, ""] | None = None,
) -> Float[Tensor, " examples"]:
    """Compute the loss of each example. `kl` is KTO's baseline, estimated over the whole batch."""
    if settings.loss == "kto":
        assert kl is not None
        return losses.kto(
            scores.logratios[:, 0],
            label > 0.5,
            kl,
            settings.strength,
            settings.desirable_weight,
            settings.undesirable_weight,
        )
    loss = pair_loss(settings)
    if settings.loss == "dpo":
        label = label * (1.0 - 2.0 * settings.label_smoothing) + settings.label_smoothing
    inputs = scores.logratios if settings.needs_reference else scores.policy
    per_pair = losses.expected_loss(loss, inputs[:, 0], inputs[:, 1], label)
    if settings.loss == "orpo":
        return scores.nll + settings.strength * per_pair
    return per_pair + settings.nll_coef * scores.nll if settings.nll_coef else per_pair


def pair_loss(settings: PreferenceLossSettings) -> PairLoss:
    """Return the loss of a pair as a function of log-ratios (simpo, orpo: of average log-probabilities)."""
    beta = settings.strength
    if settings.loss == "ipo":
        return lambda chosen, rejected: losses.ipo(chosen, rejected, beta)
    if settings.loss == "hinge":
        return lambda chosen, rejected: losses.hinge(chosen, rejected, beta)
    if settings.loss == "simpo":
        return lambda chosen, rejected: losses.simpo(chosen, rejected, beta, settings.margin)
    if settings.loss == "orpo":
        return losses.odds_ratio
    loss = losses.dpo_loss(beta)
    if settings.loss == "robust":
        return lambda chosen, rejected: losses.robust_loss(loss, chosen, rejected, settings.label_smoothing)
    return loss


def implicit_rewards(settings: PreferenceLossSettings, scores: ExampleScores) -> Float[Tensor, "examples 2"]:
    """Compute beta × log-ratio of both sides; for simpo and orpo, which have no reference, beta × score."""
    return settings.strength * (scores.logratios if settings.needs_reference else scores.policy).detach()


def label_tensor(labels: list[float], like: Tensor) -> Float[Tensor, " examples"]:
    """Return labels as a tensor with dtype and device of `like`."""
    return torch.tensor(labels, dtype=like.dtype, device=like.device)
