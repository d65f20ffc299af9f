"""Relate the agreement of two raters to how often one of them, or the majority of several, is right.

Model: two choices, raters who err independently and equally often. Real raters share errors, so a majority is right
less often than this says; the figures are upper bounds for planning.
"""

from __future__ import annotations

from scipy.stats import binom


def rater_accuracy(agreement: float) -> float | None:
    """Return the accuracy a at which two raters agree so often: a² + (1 − a)² = agreement, a ≥ 1/2.

    None below 1/2, where no such accuracy exists.
    """
    return None if agreement < 0.5 else (1 + (2 * agreement - 1) ** 0.5) / 2


def majority_accuracy(accuracy: float, raters: int) -> float:
    """Return the probability that the majority of `raters`, an odd number, is right. Source: Condorcet 1785.

    Raises ValueError for an even number, which may tie.
    """
    if raters < 1 or raters % 2 == 0:
        raise ValueError(f"a majority without ties needs an odd number of raters, got {raters}")
    return float(binom.sf(raters // 2, raters, accuracy))
