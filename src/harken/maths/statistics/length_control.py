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

from harken.maths.statistics.bootstrap import BOOTSTRAP_BLOCK, cluster_counts
from harken.maths.statistics.intervals import Interval
from harken.maths.statistics.logistic import PRIOR_L2, fit_logistic, linear_standard_errors

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
    the spread of the predictions alone would hold neither. Rates near 0 and 1 have skewed errors, so the bootstrap is
    studentised on the scale of log odds: each refit's distance from the estimate counts in its own standard error.
    Source: Dubois et al. 2024, arXiv 2404.04475 (the model); Davison and Hinkley 1997, Bootstrap Methods and their
    Application, section 5.2 (the interval).
    """
    labels, differences = _column(outcomes), _column(length_differences)
    names, index = np.unique(np.asarray(clusters).reshape(-1), return_inverse=True)
    spread = float(differences.std())
    length = np.tanh(differences / spread) if spread > 0 else np.zeros_like(differences)
    columns = [np.ones_like(length), length]
    if difficulty is not None:
        columns.append(_column(difficulty))
    features = np.stack(columns, axis=1)
    equal_length = features.copy()
    equal_length[:, 1] = 0.0

    def estimate(beta: Array, weights: Array) -> tuple[Array, Array]:
        """Return the log odds of the rate at equal length and its standard error, from [fits, clusters] weights."""
        rows = weights[:, index]
        total = rows.sum(axis=1, keepdims=True)
        chances = special.expit(beta @ equal_length.T)
        rate = (rows * chances).sum(axis=1, keepdims=True) / total
        slopes = (rows * chances * (1 - chances)) @ equal_length / total / (rate * (1 - rate))
        return special.logit(rate[:, 0]), linear_standard_errors(
            slopes, beta, features, labels, weights, index, l2
        )

    whole = np.ones((1, len(names)))
    fitted = fit_logistic(features, labels, whole[:, index], l2)
    centre, error = (float(part[0]) for part in estimate(fitted, whole))
    distances = []
    for counts in cluster_counts(len(names), draws, seed):
        # A block is cut again: several rows may belong to one cluster.
        for some in np.array_split(counts, max(1, len(labels) * len(counts) // BOOTSTRAP_BLOCK)):
            refitted = fit_logistic(features, labels, some[:, index], l2, start=fitted[0])
            odds, errors = estimate(refitted, some)
            with np.errstate(divide="ignore", invalid="ignore"):
                distances.append(np.where(errors > 0, (odds - centre) / errors, 0.0))
    tail = (1 - confidence) / 2
    below, above = np.quantile(np.concatenate(distances), [tail, 1 - tail])
    rate = Interval(*(float(special.expit(centre - error * z)) for z in (0.0, above, below)))
    psi = float(fitted[0, 2]) if difficulty is not None else None
    return LengthControlled(rate, float(fitted[0, 0]), float(fitted[0, 1]), psi)


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
