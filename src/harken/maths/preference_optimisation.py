"""Compute the losses that train a policy on preferences directly, one value per pair or response.

Scores are log-probabilities of responses in nats, summed or averaged over tokens (`sequence_score`). A log-ratio is the
policy's score minus the reference's.

    dpo     −log σ(β (Δc − Δr))                          Rafailov et al. 2023 (arXiv:2305.18290) eq. 7
    ipo     ((Δc − Δr) − 1 / (2β))²                      Azar et al. 2023 (arXiv:2310.12036) eq. 17, β there τ
    hinge   max(0, 1 − β (Δc − Δr))                      Zhao et al. 2023 (arXiv:2305.10425) eq. 3, with a reference
    simpo   −log σ(β (c − r) − γ)                        Meng et al. 2024 (arXiv:2405.14734) eq. 6
    orpo    −log σ(log odds(c) − log odds(r))            Hong et al. 2024 (arXiv:2403.07691) eq. 6
    kto     1 − σ(±(β Δ − z₀)), z₀ = max(0, β KL)         Ethayarajh et al. 2024 (arXiv:2402.01306) eq. 8

with c, r the policy's scores of the chosen and the rejected response and Δc, Δr their log-ratios.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import logsigmoid, relu, sigmoid

from harken.maths.preference_loss import bradley_terry

PairLoss = Callable[[Tensor, Tensor], Tensor]
"""Function from the scores of chosen and rejected responses, [pairs] each, to the loss of each pair."""


def sequence_score(
    logprobs: Float[Tensor, "batch time"],
    response_mask: Bool[Tensor, "batch time"],
    *,
    average: bool = False,
    full_weight: Float[Tensor, " batch"] | None = None,
    tail_weight: float = 1.0,
) -> Float[Tensor, " batch"]:
    """Sum (or average) the log-probabilities of each row's response tokens, nats.

    With `full_weight`, tokens after the first `full_weight` response tokens of a row count `tail_weight`. With the
    length of the pair's shorter response this is LD-DPO (Liu et al. 2024, arXiv:2409.06411, eq. 9), which keeps a
    longer response from being preferred for its length. An empty response scores 0.
    """
    values = torch.where(response_mask, logprobs, 0.0)
    if full_weight is not None:
        position = response_mask.cumsum(-1)
        values = torch.where(position <= full_weight[:, None], values, tail_weight * values)
    total = values.sum(-1)
    return total / response_mask.sum(-1).clamp(min=1) if average else total


def ipo(
    chosen_logratio: Float[Tensor, " pairs"], rejected_logratio: Float[Tensor, " pairs"], beta: float
) -> Float[Tensor, " pairs"]:
    """Compute the IPO loss ((Δc − Δr) − 1/(2β))². The margin has a target, so certain labels do not make it infinite.

    Source: Azar et al. 2023 (arXiv:2310.12036) eq. 17.
    """
    return (chosen_logratio - rejected_logratio - 1.0 / (2.0 * beta)).square()


def hinge(
    chosen_logratio: Float[Tensor, " pairs"], rejected_logratio: Float[Tensor, " pairs"], beta: float
) -> Float[Tensor, " pairs"]:
    """Compute the hinge loss max(0, 1 − β (Δc − Δr)): pairs beyond the margin have no gradient.

    Source: SLiC-HF, Zhao et al. 2023 (arXiv:2305.10425) eq. 3, on log-ratios as in Liu et al. 2023 (arXiv:2309.06657).
    """
    return relu(1.0 - beta * (chosen_logratio - rejected_logratio))


def simpo(
    chosen: Float[Tensor, " pairs"], rejected: Float[Tensor, " pairs"], beta: float, gamma: float
) -> Float[Tensor, " pairs"]:
    """Compute the SimPO loss −log σ(β (c − r) − γ) from average log-probabilities, without a reference.

    Source: Meng et al. 2024 (arXiv:2405.14734) eq. 6.
    """
    return bradley_terry(beta * chosen, beta * rejected, gamma)


def log_odds(average_logprob: Float[Tensor, " rows"]) -> Float[Tensor, " rows"]:
    """Compute log(p / (1 − p)) of the geometric mean probability p of a response's tokens.

    `average_logprob` is log p, below 0. It is kept 1e-6 away from 0, where the odds are infinite.
    """
    log_p = average_logprob.clamp(max=-1e-6)
    return log_p - torch.log(-torch.expm1(log_p))


def odds_ratio(chosen: Float[Tensor, " pairs"], rejected: Float[Tensor, " pairs"]) -> Float[Tensor, " pairs"]:
    """Compute ORPO's odds-ratio loss −log σ(log odds(c) − log odds(r)) from average log-probabilities.

    ORPO adds it, times λ, to the negative log-likelihood of the chosen response.
    Source: Hong et al. 2024 (arXiv:2403.07691) eq. 7.
    """
    return bradley_terry(log_odds(chosen), log_odds(rejected))


def kto(
    logratio: Float[Tensor, " rows"],
    desirable: Bool[Tensor, " rows"],
    kl: Float[Tensor, ""],
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Float[Tensor, " rows"]:
    """Compute the KTO loss λ (1 − σ(±β (Δ − KL))) of responses with a thumb up (+) or down (−).

    `kl` is the batch's estimate of KL(π‖π_ref) from `kl_baseline`; no gradient flows into it.
    Source: Ethayarajh et al. 2024 (arXiv:2402.01306) eq. 8.
    """
    gap = beta * (logratio - kl.detach())
    return torch.where(
        desirable, desirable_weight * (1.0 - sigmoid(gap)), undesirable_weight * (1.0 - sigmoid(-gap))
    )


def kl_baseline(mismatched_logratio: Float[Tensor, " rows"]) -> Float[Tensor, ""]:
    """Estimate KTO's KL(π‖π_ref) as the mean log-ratio of responses to other prompts, at least 0; nats.

    Source: Ethayarajh et al. 2024 (arXiv:2402.01306) section 4.1.
    """
    return mismatched_logratio.detach().mean().clamp(min=0.0)


def expected_loss(
    loss: PairLoss,
    chosen: Float[Tensor, " pairs"],
    rejected: Float[Tensor, " pairs"],
    label: Float[Tensor, " pairs"],
) -> Float[Tensor, " pairs"]:
    """Average a loss over both orders of each pair: label × loss(c, r) + (1 − label) × loss(r, c).

    `label` is the probability that `chosen` is better. For DPO with 1 − ε this is cDPO (Mitchell 2023, "A note on DPO
    with noisy preferences"); for a tie, 1/2, both orders count equally.
    """
    return label * loss(chosen, rejected) + (1.0 - label) * loss(rejected, chosen)


def robust_loss(
    loss: PairLoss, chosen: Float[Tensor, " pairs"], rejected: Float[Tensor, " pairs"], noise: float
) -> Float[Tensor, " pairs"]:
    """Compute the unbiased estimate of a loss when a share `noise` below 1/2 of the labels is flipped.

        ((1 − ε) loss(c, r) − ε loss(r, c)) / (1 − 2ε)

    Source: rDPO, Chowdhury et al. 2024 (arXiv:2403.00409) eq. 12.
    """
    return ((1.0 - noise) * loss(chosen, rejected) - noise * loss(rejected, chosen)) / (1.0 - 2.0 * noise)


def dpo_loss(beta: float) -> PairLoss:
    """Return the DPO loss −log σ(β (Δc − Δr)) as a function of the log-ratios Δ of both sides, nats.

    Source: Rafailov et al. 2023 (arXiv:2305.18290) eq. 7.
    """
    return lambda chosen, rejected: -logsigmoid(beta * (chosen - rejected))
