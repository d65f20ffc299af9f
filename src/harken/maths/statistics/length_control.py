"""Compare two policies as if their responses had the same length.

A judge or reward model may prefer longer responses whatever they say, so a win rate is also given with the effect of
length removed by a regression, and on the rows whose lengths are about equal, which needs no model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from harken.maths.statistics.bootstrap import cluster_counts, percentile_interval
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
    win. `length_differences` are right minus left, in any unit; `difficulty` is one number per row. The interval comes
    from fitting again in every bootstrap draw of whole clusters, so it holds the noise of the outcomes and of the fit;
    the spread of the predictions alone would hold neither.
    Source: Dubois et al. 2024, arXiv 2404.04475 (the model).
    """
    labels, differences = _column(outcomes), _column(length_differences)
    names, index = np.unique(np.asarray(clusters).reshape(-1), return_inverse=True)
    spread = float(differences.std())
    length = np.tanh(differences / spread) if spread > 0 else np.zeros_like(differences)
    columns = [np.ones_like(length), length]
    if difficulty is not None:
        columns.append(_column(difficulty))
    features = np.stack(columns, axis=1)
    at_equal_length = features.copy()
    at_equal_length[:, 1] = 0.0
    ones = np.ones((1, len(labels)))
    fitted = fit_logistic(features, labels, ones, l2)[0]
    value = float(special.expit(at_equal_length @ fitted).mean())
    replicates = []
    for counts in cluster_counts(len(names), draws, seed):
        # A block is cut again: several rows may belong to one cluster.
        for some in np.array_split(counts, max(1, len(labels) * len(counts) // 2_000_000)):
            weights = some[:, index]
            refitted = fit_logistic(features, labels, weights, l2, start=fitted)
            predicted = special.expit(refitted @ at_equal_length.T)
            replicates.append((weights * predicted).sum(axis=1) / weights.sum(axis=1))
    low, high = percentile_interval(np.concatenate(replicates), confidence, clusters=len(names))
    psi = float(fitted[2]) if difficulty is not None else None
    return LengthControlled(Interval(value, low, high), float(fitted[0]), float(fitted[1]), psi)


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


def _array(values: ArrayLike) -> NDArray[Any]:
    return np.asarray(values, dtype=np.float64)


def _column(values: ArrayLike) -> Array:
    column: Array = _array(values).reshape(-1)
    return column
