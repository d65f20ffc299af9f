"""Compare two policies as if their responses had the same length.

A judge or reward model may prefer longer responses regardless of their content. A win rate is therefore also given with
the effect of length removed by a regression, and on the rows whose lengths are about equal, which needs no model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from harken.maths.statistics.bootstrap import BOOTSTRAP_BLOCK, cluster_counts, critical_value
from harken.maths.statistics.intervals import Interval
from harken.maths.statistics.logistic import PRIOR_L2, fit_logistic

REFIT_DRAWS = 1_000
"""Bootstrap draws of an estimate that is fitted again in each."""
MATCHED_LOG_RATIO = 0.1
"""Two lengths match below this absolute logarithm of their ratio: within about 10 %."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LengthControlled:
    """Hold a length-controlled win rate and the fitted coefficients.

    P(right wins) = σ(theta + phi·tanh(Δlength / sd) + psi·difficulty); phi > 0 says that longer responses win more.
    `psi` is None without difficulties.
    """

    win_rate: Interval
    theta: float
    phi: float
    psi: float | None


def length_controlled_win_rate(
    outcomes: ArrayLike,
    length_differences: ArrayLike,
    clusters: ArrayLike,
    difficulty: ArrayLike | None = None,
    draws: int = REFIT_DRAWS,
    seed: int = 0,
    confidence: float = 0.95,
    l2: float = PRIOR_L2,
) -> LengthControlled:
    """Compute the win rate that is predicted at equal lengths, averaged over the rows, with its interval.

    `outcomes` are 1 for a win, ½ for a tie and 0 for a loss of the right policy, so the rate counts a tie as half a
    win. `length_differences` are right minus left, in any unit; `difficulty` is one number per row.

    The interval comes from fitting again in every bootstrap draw of whole clusters, so it holds the noise of the
    outcomes and of the fit; the spread of the predictions alone would hold neither. Near 0 and 1 the refits are skewed,
    so their standard deviation is taken on the scale of log odds, times z, about a fit to which one tie at equal length
    is added (as Wilson's and Jeffreys' intervals add about one row).
    Source: Dubois et al. 2024, arXiv 2404.04475 (the model); Efron and Tibshirani 1993, An Introduction to the
    Bootstrap, section 12.6 (intervals on a transformed scale).
    """
    labels, differences = _column(outcomes), _column(length_differences)
    names, index = np.unique(np.asarray(clusters).reshape(-1), return_inverse=True)
    spread = float(differences.std())
    length = np.tanh(differences / spread) if spread > 0 else np.zeros_like(differences)
    columns = [np.ones_like(length), length]
    if difficulty is not None:
        columns.append(_column(difficulty))
    features = np.stack(columns, axis=1)
    fitted = fit_logistic(features, labels, np.ones((1, len(labels))), l2)[0]
    value = float(special.expit(_log_odds(fitted[None], features, np.ones((1, len(labels)))))[0])

    # One tie at equal length and mean difficulty, in the estimate and in every draw.
    padded = np.vstack([features, [1.0, 0.0, *features[:, 2:].mean(axis=0)]])
    padded_labels = np.append(labels, 0.5)

    def refit(counts: Array) -> Array:
        weights = counts[:, index]
        beta = fit_logistic(padded, padded_labels, _pad(weights), l2, start=fitted)
        return _log_odds(beta, features, weights)

    centre = float(refit(np.ones((1, len(names))))[0])
    replicates = np.concatenate(
        [
            refit(some)
            for counts in cluster_counts(len(names), draws, seed)
            # A block is cut again: several rows may belong to one cluster.
            for some in np.array_split(counts, max(1, len(labels) * len(counts) // BOOTSTRAP_BLOCK))
        ]
    )
    reach = critical_value(confidence, None) * float(replicates.std())
    low, high = (float(special.expit(centre + side * reach)) for side in (-1, 1))
    psi = float(fitted[2]) if difficulty is not None else None
    return LengthControlled(
        Interval(value, min(low, value), max(high, value)), float(fitted[0]), float(fitted[1]), psi
    )


def length_matched(left: ArrayLike, right: ArrayLike, limit: float = MATCHED_LOG_RATIO) -> NDArray[np.bool_]:
    """Mark the rows whose two lengths differ by less than `limit` in the logarithm. A length of 0 counts as 1."""
    ratio = np.log(np.maximum(_array(right), 1)) - np.log(np.maximum(_array(left), 1))
    matched: NDArray[np.bool_] = np.abs(ratio) < limit
    return matched


def length_correlations(values: ArrayLike, lengths: ArrayLike) -> tuple[float | None, float | None]:
    """Return Pearson's and Spearman's correlation of values with lengths; None where either is constant."""
    value, length = _column(values), _column(lengths)
    if len(value) < 3 or np.ptp(value) == 0 or np.ptp(length) == 0:
        return None, None
    return float(stats.pearsonr(value, length).statistic), float(stats.spearmanr(value, length).statistic)


def _log_odds(beta: Array, features: Array, weights: Array) -> Array:
    """Return the log odds of the mean win rate that is predicted at equal lengths, one per fit."""
    equal_length = features.copy()
    equal_length[:, 1] = 0.0
    chances = special.expit(beta @ equal_length.T)
    odds: Array = special.logit((weights * chances).sum(axis=1) / weights.sum(axis=1))
    return odds


def _pad(weights: Array) -> Array:
    return np.hstack([weights, np.ones((len(weights), 1))])


def _array(values: ArrayLike) -> NDArray[Any]:
    return np.asarray(values, dtype=np.float64)


def _column(values: ArrayLike) -> Array:
    column: Array = _array(values).reshape(-1)
    return column
