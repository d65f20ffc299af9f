"""Measure how far raters agree: Krippendorff's alpha, and how well one rater predicts the others.

The second is a ceiling for a reward model: an accuracy above it on the same pairs suggests that they were in the
training data. A score is negative for the first response, positive for the second, 0 a tie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harken.maths.statistics.intervals import clustered_jeffreys


@dataclass(frozen=True, slots=True)
class RaterCeiling:
    """Hold the share of `cases` in which a rater agrees with the majority of the others, with its 95 % interval.

    `rows`: rows with at least one such case.
    """

    rows: int
    cases: int
    agreement: float
    low: float
    high: float


def krippendorff_alpha(rows: Sequence[Sequence[float]]) -> float | None:
    """Compute Krippendorff's alpha for ordinal scores: 1 - observed ÷ expected disagreement.

    None where the expected disagreement is 0. Rows may have different numbers of raters; those with fewer than two are
    ignored. The squared distance of two values is (number of scores from one to the other, the outer two counted
    half)². Source: Krippendorff 2011, "Computing Krippendorff's alpha-reliability", section E.
    """
    rated = [row for row in rows if len(row) >= 2]
    values = sorted({score for row in rated for score in row})
    index = {value: i for i, value in enumerate(values)}
    together = np.zeros((len(values), len(values)))
    for row in rated:
        counts = np.bincount([index[score] for score in row], minlength=len(values)).astype(float)
        together += (np.outer(counts, counts) - np.diag(counts)) / (len(row) - 1)
    marginal = together.sum(0)
    middle = np.cumsum(marginal) - marginal / 2
    distance = (middle[:, None] - middle[None, :]) ** 2
    expected = float((np.outer(marginal, marginal) * distance).sum())
    if expected == 0:
        return None
    return 1.0 - float((together * distance).sum()) * float(marginal.sum() - 1) / expected


def rater_ceiling(rows: Sequence[Sequence[float]]) -> RaterCeiling | None:
    """Compute leave-one-rater-out agreement: each rater's side against the side that most of the others chose.

    Ties of the rater and of the others are left out, as label ties are left out of a reward model's accuracy. Raters
    who guess agree in half of the cases. The interval is clustered by row. None when no row has a case.
    """
    agreed, cases = [], []
    for row in rows:
        signs = np.sign(np.asarray(row, dtype=np.float64))
        others = np.sign(signs.sum() - signs)
        decided = (signs != 0) & (others != 0)
        agreed.append(int((signs == others)[decided].sum()))
        cases.append(int(decided.sum()))
    if not sum(cases):
        return None
    found = clustered_jeffreys(agreed, cases)
    return RaterCeiling(sum(n > 0 for n in cases), sum(cases), found.mean, found.low, found.high)
