"""Compute preference losses, one value per pair. Log-probabilities are in nats."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid


def bradley_terry(
    chosen: Float[Tensor, " pairs"],
    rejected: Float[Tensor, " pairs"],
    margin: float | Float[Tensor, " pairs"] = 0.0,
) -> Float[Tensor, " pairs"]:
    """Compute the Bradley-Terry loss -log σ(chosen - rejected - margin).

    Source: Bradley and Terry 1952; with the margin, Touvron et al. 2023 (arXiv:2307.09288) eq. 2.
    """
    return -logsigmoid(chosen - rejected - margin)


def soft_bradley_terry(
    chosen: Float[Tensor, " pairs"], rejected: Float[Tensor, " pairs"], label: Float[Tensor, " pairs"]
) -> Float[Tensor, " pairs"]:
    """Compute the cross-entropy against `label`, the probability that `chosen` is better (0.5: a tie).

    -label log σ(d) - (1 - label) log σ(-d), with d = chosen - rejected.
    """
    difference = chosen - rejected
    return -label * logsigmoid(difference) - (1.0 - label) * logsigmoid(-difference)
