"""Compare two policies as if their responses had the same length.

A judge or reward model may prefer longer responses regardless of their content. A win rate is therefore also given with
the effect of length removed by a regression, and on the rows whose lengths are about equal, which needs no model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from harken.maths.statistics.controlled_rate import REFIT_DRAWS, win_rate_at_equal
from harken.maths.statistics.intervals import Interval
from harken.maths.statistics.logistic import PRIOR_L2

MATCHED_LOG_RATIO = 0.1
"""Two lengths match below this absolute logarithm of their ratio: within about 10 %."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LengthControlled:
    """A length-controlled win rate and the fitted coefficients.

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

    `outcomes` are 1, ½ or 0, as for `win_rate_at_equal`, which has the fit and the interval. `length_differences` are
    right minus left, in any unit; `difficulty` is one number per row.
    Source: Dubois et al. 2024, arXiv 2404.04475 (the model).
    """
    differences = _column(length_differences)
    spread = float(differences.std())
    length = np.tanh(differences / spread) if spread > 0 else np.zeros_like(differences)
    uncontrolled = np.zeros((len(length), 0)) if difficulty is None else _column(difficulty)[:, None]
    rate, beta = win_rate_at_equal(
        outcomes, length[:, None], uncontrolled, clusters, draws, seed, confidence, l2
    )
    psi = float(beta[2]) if difficulty is not None else None
    return LengthControlled(rate, float(beta[0]), float(beta[1]), psi)


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
