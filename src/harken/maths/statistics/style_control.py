"""Compare two policies as if their responses had the same length and the same markup.

A judge or reward model may prefer headers, lists and bold text whatever they say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harken.maths.statistics.controlled_rate import REFIT_DRAWS, win_rate_at_equal
from harken.maths.statistics.intervals import Interval
from harken.maths.statistics.logistic import PRIOR_L2


@dataclass(frozen=True, slots=True)
class StyleControlled:
    """A style-controlled win rate and the fitted coefficients.

    P(right wins) = σ(theta + Σ effects[s] · d_s / sd(d_s)), d_s = (right − left) / (right + left); an effect above 0
    says that responses with more of s win more. The effect of a style in which no row differs is 0.
    """

    win_rate: Interval
    theta: float
    effects: dict[str, float]


def style_controlled_win_rate(
    outcomes: ArrayLike,
    left: Mapping[str, ArrayLike],
    right: Mapping[str, ArrayLike],
    clusters: ArrayLike,
    draws: int = REFIT_DRAWS,
    seed: int = 0,
    confidence: float = 0.95,
    l2: float = PRIOR_L2,
) -> StyleControlled:
    """Compute the win rate that is predicted where both sides have the same style, with its interval.

    `outcomes`: 1, ½ or 0, as for `win_rate_at_equal`, which has the fit and the interval; `left` and `right` have the
    length and the counts of each style, one per row. Differences are scaled by their standard deviation and not
    centred, so that 0 stays "the same style": the sides of a pair are fixed here, where a leaderboard's are random.
    Source: Li, Angelopoulos and Chiang 2024, "Does style matter?", lmsys.org/blog/2024-08-28-style-control (the model).
    """
    columns = [relative_difference(left[name], right[name]) for name in left]
    scaled = [column / column.std() if column.std() > 0 else np.zeros_like(column) for column in columns]
    labels = np.asarray(outcomes, dtype=np.float64).reshape(-1)
    rate, beta = win_rate_at_equal(
        labels, np.stack(scaled, axis=1), np.zeros((len(labels), 0)), clusters, draws, seed, confidence, l2
    )
    return StyleControlled(rate, float(beta[0]), dict(zip(left, map(float, beta[1:]), strict=True)))


def relative_difference(left: ArrayLike, right: ArrayLike) -> NDArray[np.float64]:
    """Return (right − left) / (right + left) of counts, 0 where both are 0: from −1 to 1."""
    first, second = (np.asarray(side, dtype=np.float64).reshape(-1) for side in (left, right))
    total = first + second
    return np.divide(second - first, total, out=np.zeros_like(total), where=total > 0)
