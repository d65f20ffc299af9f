"""Predict a win rate at equal values of some covariates, with an interval from refits in bootstrap draws."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from harken.maths.statistics.bootstrap import BOOTSTRAP_BLOCK, cluster_counts, critical_value, is_constant
from harken.maths.statistics.intervals import Interval, clustered_jeffreys
from harken.maths.statistics.logistic import PRIOR_L2, fit_logistic

REFIT_DRAWS = 1_000
"""Number of bootstrap draws of an estimate that is refitted in each."""

ENOUGH_FOR_REFITS = 50
"""Clusters from which the spread of refits alone covers; for fewer see docs/statistics.md."""

Array = NDArray[np.float64]


def win_rate_at_equal(
    outcomes: ArrayLike,
    controlled: Array,
    others: Array,
    clusters: ArrayLike,
    draws: int = REFIT_DRAWS,
    seed: int = 0,
    confidence: float = 0.95,
    l2: float = PRIOR_L2,
) -> tuple[Interval, Array]:
    """Fit P(right wins) = σ(θ + controlled · φ + others · ψ); predict the mean win rate at controlled = 0.

    `outcomes` are 1 for a win, ½ for a tie and 0 for a loss of the right policy, so the rate counts a tie as half a
    win. `controlled` [rows, p] are differences, right minus left, which are 0 where both sides are equal; `others`
    [rows, q] keep their values. Returns the rate, averaged over the rows, with its interval, and [θ, φ, ψ].

    The interval comes from refits in every bootstrap draw of whole clusters, so it includes the noise of the
    outcomes and of the fit; the spread of the predictions alone would include neither. Near 0 and 1 the refits are
    skewed, so their standard deviation is taken on the scale of log odds, times z, about a fit to which one tie at
    equal values is added (as Wilson's and Jeffreys' intervals add about one row). Refits of
    fewer than `ENOUGH_FOR_REFITS` clusters vary too little, and the interval then holds that of the uncontrolled rate
    (`clustered_jeffreys`) too. Refits of one cluster or of equal outcomes do not vary at all: it is that interval,
    widened to hold the controlled rate.
    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, section 12.6 (transformed scales).
    """
    labels = np.asarray(outcomes, dtype=np.float64).reshape(-1)
    names, index = np.unique(np.asarray(clusters).reshape(-1), return_inverse=True)
    features = np.column_stack([np.ones_like(labels), controlled, others])
    at_equal = np.column_stack([np.ones_like(labels), np.zeros_like(controlled), others])
    fitted = fit_logistic(features, labels, np.ones((1, len(labels))), l2)[0]
    value = float(special.expit(_log_odds(fitted[None], at_equal, np.ones((1, len(labels)))))[0])
    rate = clustered_jeffreys(np.bincount(index, labels), np.bincount(index), confidence, halves=True)
    if len(names) == 1 or is_constant(labels):
        return Interval(value, min(rate.low, value), max(rate.high, value)), fitted

    # One tie at equal values and at the mean of the others, in the estimate and in every draw.
    padded = np.vstack([features, at_equal.mean(axis=0)])
    padded_labels = np.append(labels, 0.5)

    def refit(counts: Array) -> Array:
        weights = counts[:, index]
        padded_weights = np.hstack([weights, np.ones((len(weights), 1))])
        beta = fit_logistic(padded, padded_labels, padded_weights, l2, start=fitted)
        return _log_odds(beta, at_equal, weights)

    centre = float(refit(np.ones((1, len(names))))[0])
    replicates = np.concatenate(
        [
            refit(chunk)
            for counts in cluster_counts(len(names), draws, seed)
            # A block is split again, since several rows may belong to one cluster.
            for chunk in np.array_split(counts, max(1, len(labels) * len(counts) // BOOTSTRAP_BLOCK))
        ]
    )
    reach = critical_value(confidence, None) * float(replicates.std())
    low, high = (float(special.expit(centre + side * reach)) for side in (-1, 1))
    if len(names) < ENOUGH_FOR_REFITS:
        low, high = min(low, rate.low), max(high, rate.high)
    return Interval(value, min(low, value), max(high, value)), fitted


def _log_odds(beta: Array, at_equal: Array, weights: Array) -> Array:
    """Return the log odds of the mean win rate that is predicted at equal values, one per fit."""
    chances = special.expit(beta @ at_equal.T)
    odds: Array = special.logit((weights * chances).sum(axis=1) / weights.sum(axis=1))
    return odds
