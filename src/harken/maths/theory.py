"""Compute the optimal KL-regularised policy, and the reward reachable at a KL, exactly, over a finite response set.

Responses lie along the last axis of `log_reference` (log-probabilities under the reference, in nats; -inf for an
impossible one) and of `reward`. The axes before it are prompts: they have equal weight and share one β, and KL and
reward are means over them. n sampled responses represent the reference with log_reference = -log n.
Derivations, and the tests that check them: docs/theory.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import logsumexp

Array = NDArray[np.float64]

MIN_KL_BUDGET = 1e-9
"""Nats. A smaller KL is lost in rounding; there it is Var(r) / (2 β²), with the variance under the reference."""
PROBABILITY_TOLERANCE = 1e-6
"""Largest deviation from 1 of the sum of a prompt's response probabilities."""


@dataclass(frozen=True, slots=True)
class Optimum:
    """Describe the optimal policy at one β: KL from the reference (nats per response), mean reward, reward variance.

    `variance` is the variance of the reward over one prompt's responses under the optimum, averaged over prompts.
    """

    beta: float
    kl: float
    reward: float
    variance: float


def optimal_policy(log_reference: ArrayLike, reward: ArrayLike, beta: float) -> Array:
    """Compute log π*(y), the maximiser of E[r] - β KL(π ‖ π_ref) over all distributions. Shape of `log_reference`.

        π*(y) = π_ref(y) exp(r(y) / β) / Z        Z = Σ π_ref(y) exp(r(y) / β)

    Raises ValueError when β is not positive, a reward is not finite, or probabilities do not add up to 1.
    Source: Korbak et al. 2022 (arXiv:2205.11275); Rafailov et al. 2023 (arXiv:2305.18290) eq. 4.
    """
    log_ref, r = _checked(log_reference, reward)
    return _tilted(log_ref, r, 1.0 / _positive(beta))


def optimal_value(log_reference: ArrayLike, reward: ArrayLike, beta: float) -> float:
    """Compute the maximum of E[r] - β KL(π ‖ π_ref), in units of reward: β log Z, averaged over prompts.

    Errors as in `optimal_policy`.
    """
    log_ref, r = _checked(log_reference, reward)
    best = r.max(-1)
    log_z = logsumexp(log_ref + (r - best[..., None]) / _positive(beta), axis=-1)
    return float((best + beta * log_z).mean())


def optimum(log_reference: ArrayLike, reward: ArrayLike, beta: float) -> Optimum:
    """Compute KL and reward of the optimal policy at this β. Errors as in `optimal_policy`."""
    log_ref, r = _checked(log_reference, reward)
    log_p = _tilted(log_ref, r, 1.0 / _positive(beta))
    p = np.exp(log_p)
    mean = (p * r).sum(-1)
    variance = (p * (r - mean[..., None]) ** 2).sum(-1)
    return Optimum(beta, kl_divergence(log_p, log_ref), float(mean.mean()), float(variance.mean()))


def frontier(log_reference: ArrayLike, reward: ArrayLike, betas: Iterable[float]) -> list[Optimum]:
    """Compute one optimum per β: no policy has more reward at the same KL. Errors as in `optimal_policy`."""
    return [optimum(log_reference, reward, beta) for beta in betas]


def kl_divergence(log_p: ArrayLike, log_q: ArrayLike) -> float:
    """Compute KL(p ‖ q) = Σ p (log p - log q) in nats, averaged over prompts.

    Infinite when q is 0 where p is not.
    """
    p, q = np.asarray(log_p, dtype=np.float64), np.asarray(log_q, dtype=np.float64)
    possible = np.exp(p) > 0
    gap = np.where(possible, p, 0.0) - np.where(possible, q, 0.0)
    return float((np.exp(p) * gap).sum(-1).mean())


def kl_limit(log_reference: ArrayLike, reward: ArrayLike) -> float:
    """Compute the KL of the optimum as β → 0, in nats: -log π_ref(the best responses), averaged over prompts.

    More KL than this does not raise the reward. 0 when the reward is the same for every response.
    Errors as in `optimal_policy`.
    """
    log_ref, r = _checked(log_reference, reward)
    best = np.where(r == r.max(-1, keepdims=True), log_ref, -np.inf)
    return float(-logsumexp(best, axis=-1).mean()) + 0.0


def beta_for_kl(log_reference: ArrayLike, reward: ArrayLike, budget: float) -> float:
    """Find the β whose optimum has a KL of `budget` nats per response from the reference.

    It is unique, because dKL/dβ = -Var(r) / β³ is negative. At any larger β the optimum lies nearer to the
    reference; it is the reference itself only at β = ∞, or when the reward is the same for every response.
    Raises ValueError as in `optimal_policy`, when the budget is at or above `kl_limit`, or below 1e-9 nats.
    """
    log_ref, r = _checked(log_reference, reward)
    limit, spread = kl_limit(log_ref, r), float((r.max(-1) - r.min(-1)).max())
    if spread == 0:
        raise ValueError("every response has the same reward: the best policy is the reference at every β")
    if not MIN_KL_BUDGET <= budget < limit:
        raise ValueError(
            f"no β spends {budget:g} nats: a budget lies between {MIN_KL_BUDGET:g} nats and "
            f"{limit:.6g}, where all probability is on the best responses"
        )

    def excess(log_inverse_beta: float) -> float:
        return kl_divergence(_tilted(log_ref, r, math.exp(log_inverse_beta)), log_ref) - budget

    # A reward within a range of 1 has a variance of at most 1/4, so KL <= t²/8: at this t = 1/β the KL is too small.
    low = math.log(math.sqrt(8 * budget) / spread) - 1e-3
    high = low + 1.0
    while excess(high) < 0:
        high += 1.0
        if high > 700.0:
            raise ValueError(f"{budget!r} nats is within rounding of the limit {limit!r}: lower the budget")
    return math.exp(-brentq(excess, low, high, xtol=1e-13, rtol=1e-14))


def normal_beta_for_kl(deviation: float, budget: float) -> float:
    """Compute `beta_for_kl` for rewards that are normal under the reference: deviation / √(2 budget).

    Then KL = deviation² / (2 β²) at every β, without a limit, so only the standard deviation is needed: that of the
    responses to one prompt, not over all prompts.
    Raises ValueError when one of the two is not positive.
    """
    if not (deviation > 0 and budget > 0):
        raise ValueError(f"deviation and budget must be positive, got {deviation} and {budget}")
    return deviation / math.sqrt(2 * budget)


def best_of_n(log_reference: ArrayLike, reward: ArrayLike, n: int) -> Array:
    """Compute log-probabilities of best-of-n under the reference; equal rewards share. Shape of `log_reference`.

        π(y) = π_ref(y) (F(r)ⁿ - F(r-)ⁿ) / (F(r) - F(r-))

    F(r) is the reference's probability of a reward of at most r(y), F(r-) of a smaller one. Every response is
    compared with every other, so memory is quadratic in their number.
    Raises ValueError when n < 1, and as in `optimal_policy`.
    """
    if n < 1:
        raise ValueError(f"best of n needs n >= 1, got {n}")
    log_ref, r = _checked(log_reference, reward)
    reference, other = np.exp(log_ref)[..., None, :], r[..., None, :]
    at_most = np.where(other <= r[..., None], reference, 0.0).sum(-1)
    below = np.where(other < r[..., None], reference, 0.0).sum(-1)
    # The quotient as a sum of powers: the difference itself would round to 0 for an unlikely response.
    quotient = sum((at_most**i * below ** (n - 1 - i) for i in range(n)), start=np.zeros_like(at_most))
    with np.errstate(divide="ignore"):  # a quotient can underflow to 0
        log_p: Array = log_ref + np.log(quotient)
    return log_p


def best_of_n_kl(n: int) -> float:
    """Compute log n - (n - 1) / n nats: the largest KL of any best-of-n from the reference.

    The bound is approached with many responses, each unlikely and of a different reward, so it translates a KL of PPO
    into an equivalent best-of-n. Raises ValueError when n < 1.
    Source: Beirami et al. 2024 (arXiv:2401.01879).
    """
    if n < 1:
        raise ValueError(f"best of n needs n >= 1, got {n}")
    return math.log(n) - (n - 1) / n


def _tilted(log_ref: Array, r: Array, inverse_beta: float) -> Array:
    """Compute log(π_ref exp(r / β) / Z). The best reward is subtracted first, so that nothing overflows."""
    log_p: Array = log_ref + inverse_beta * (r - r.max(-1, keepdims=True))
    return np.asarray(log_p - logsumexp(log_p, axis=-1, keepdims=True), dtype=np.float64)


def _positive(beta: float) -> float:
    if not 0 < beta < math.inf:
        raise ValueError(f"β is a positive number, got {beta}")
    return beta


def _checked(log_reference: ArrayLike, reward: ArrayLike) -> tuple[Array, Array]:
    """Return both as float64 of one shape; an impossible response gets its prompt's lowest reward."""
    log_ref = np.asarray(log_reference, dtype=np.float64)
    log_ref, r = np.broadcast_arrays(log_ref, np.asarray(reward, dtype=np.float64))
    possible = log_ref != -np.inf
    if not log_ref.size or not np.all(
        np.abs(np.where(possible, np.exp(log_ref), 0.0).sum(-1) - 1) < PROBABILITY_TOLERANCE
    ):
        raise ValueError("the reference's probabilities of the responses to a prompt must add up to 1")
    if not np.isfinite(r[possible]).all():
        raise ValueError("every possible response needs a finite reward")
    lowest = np.where(possible, r, np.inf).min(-1, keepdims=True)
    return log_ref, np.where(possible, r, lowest)
