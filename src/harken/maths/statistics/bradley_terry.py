"""Estimate strengths of more than two policies from counts of wins and ties (Bradley–Terry, Rao–Kupper).

P(i beats j) = σ(b_i − b_j − η) and P(tie) = 1 − σ(b_i − b_j − η) − σ(b_j − b_i − η), with η >= 0. Since the tie's
probability is (e^{2η} − 1) σ(b_i − b_j − η) σ(b_j − b_i − η), the log-likelihood of counts W_ij (i beats j) and T_ij is
Σ (W_ij + T_ij) log σ(b_i − b_j − η) + Σ T log(e^{2η} − 1), concave in (b, η), so Newton's method finds its maximum.
Source: Bradley and Terry 1952, Biometrika 39:324; Rao and Kupper 1967, JASA 62:194.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from harken.maths.statistics.logistic import PRIOR_L2
from harken.maths.statistics.newton import maximize_concave

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Strengths:
    """Fitted strengths: `b` [fits, policies], in nats of the odds, mean 0; `eta` [fits], 0 without ties."""

    b: Array
    eta: Array


def fit_bradley_terry(wins: ArrayLike, ties: ArrayLike, l2: float = PRIOR_L2) -> Strengths:
    """Fit strengths to counts: `wins[f, i, j]` says how often i beat j in fit f, `ties[f, i, j]` = `ties[f, j, i]`.

    One matrix may be given instead of a stack. A prior of strength `l2` (Gaussian, on b alone) keeps strengths finite
    when a policy wins always. Raises ValueError when the policies fall into groups that were never compared, which
    it names, or without counts.
    """
    won, tied = _stack(wins), _stack(ties)
    check_connected(won.sum(axis=0) + tied.sum(axis=0))
    fits, policies = won.shape[:2]
    # Every ordered pair (i, j) has W_ij + T_ij successes of σ(b_i − b_j − η); the diagonal does not count.
    diagonal = np.arange(policies)
    won[:, diagonal, diagonal] = tied[:, diagonal, diagonal] = 0.0
    successes = won + tied
    total_ties = tied.sum(axis=(1, 2)) / 2
    total = won.sum(axis=(1, 2)) + total_ties
    has_ties = total_ties > 0
    start = np.zeros((fits, policies + 1))
    # At equal strengths the share of ties t gives η: σ(−η) = (1 − t) / 2.
    share = np.minimum(total_ties / total, 0.99)
    start[:, policies] = np.where(has_ties, -special.logit((1 - share) / 2), 0.0)
    solution = maximize_concave(
        start,
        lambda x: _derivatives(x, successes, total_ties, l2),
        lambda x: (x[:, policies] > 0) | ~has_ties,
    )
    b = solution[:, :policies]
    return Strengths(b - b.mean(axis=1, keepdims=True), solution[:, policies])


def check_connected(comparisons: ArrayLike) -> None:
    """Raise ValueError, naming the groups, when comparisons [policies, policies] do not connect all policies."""
    linked = np.asarray(comparisons) + np.asarray(comparisons).T > 0
    groups = list(_components(linked))
    if len(groups) > 1:
        raise ValueError(
            f"strengths need comparisons between all policies; these groups were never compared: {groups}"
        )


def _components(linked: NDArray[np.bool_]) -> Iterable[list[int]]:
    unvisited = set(range(len(linked)))
    while unvisited:
        group, edge = set(), {min(unvisited)}
        while edge:
            group |= edge
            edge = {j for i in edge for j in np.flatnonzero(linked[i]).tolist()} - group
        unvisited -= group
        yield sorted(group)


def _derivatives(x: Array, successes: Array, total_ties: Array, l2: float) -> tuple[Array, Array]:
    """Return gradient and negative Hessian of the penalised log-likelihood in (b, η). Without ties η does not move."""
    b, eta = x[:, :-1], x[:, -1]
    fits, policies = b.shape
    margin = b[:, :, None] - b[:, None, :] - eta[:, None, None]
    slope = successes * special.expit(-margin)
    curvature = slope * special.expit(margin)
    gradient = np.empty((fits, policies + 1))
    gradient[:, :policies] = slope.sum(axis=2) - slope.sum(axis=1) - l2 * b
    information = np.zeros((fits, policies + 1, policies + 1))
    information[:, :policies, :policies] = -(curvature + curvature.transpose(0, 2, 1))
    diagonal = np.arange(policies)
    information[:, diagonal, diagonal] += (curvature.sum(axis=2) + curvature.sum(axis=1)) + l2
    # Strengths are known up to a constant: without a prior, fix it.
    information[:, :policies, :policies] += 1.0 / policies if l2 == 0 else 0.0
    cross = curvature.sum(axis=1) - curvature.sum(axis=2)
    information[:, :policies, policies] = information[:, policies, :policies] = cross
    tied = total_ties > 0
    decay = np.where(tied, np.exp(-2 * eta), 0.0)
    gradient[:, policies] = np.where(tied, 2 * total_ties / (1 - decay) - slope.sum(axis=(1, 2)), 0.0)
    information[:, policies, policies] = np.where(
        tied, curvature.sum(axis=(1, 2)) + 4 * total_ties * decay / (1 - decay) ** 2, 1.0
    )
    information[:, :policies, policies] *= tied[:, None]
    information[:, policies, :policies] *= tied[:, None]
    return gradient, information


def _stack(counts: ArrayLike) -> Array:
    array = np.array(counts, dtype=np.float64)
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or array.shape[1] != array.shape[2]:
        raise ValueError(f"counts are a square matrix or a stack of them, got {array.shape}")
    return array
