"""Compute the area under the ROC curve with its interval, for independent or clustered rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from harken.maths.statistics.intervals import Interval, wilson_interval


def auc_interval(
    scores: ArrayLike, labels: ArrayLike, clusters: ArrayLike, confidence: float = 0.95
) -> Interval:
    """Compute P(score of a positive > score of a negative), ties counted half, with its interval.

    The variance is DeLong's (1988), summed within clusters as in Obuchowski (1997); the interval is of its logit, with
    C − 1 degrees of freedom for C clusters. At 0 and 1, where that variance is 0, it is Wilson's interval for as many
    trials as the rarer label has rows. Raises ValueError without rows of both labels.
    """
    values, positive = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=bool)
    count, other = int(positive.sum()), int((~positive).sum())
    if not (count and other):
        raise ValueError("the area under the curve needs rows of both labels")
    ranks = stats.rankdata(values)
    area = float((ranks[positive].sum() - count * (count + 1) / 2) / (count * other))
    if area in (0.0, 1.0):
        fewer = min(count, other)
        low, high = wilson_interval(round(area * fewer), fewer, confidence)
        return Interval(area, low, high)
    # Placement of each row: the share of the other class that it outranks (positive) or that outranks it (negative).
    placements = np.empty(len(values))
    placements[positive] = (ranks[positive] - stats.rankdata(values[positive])) / other
    placements[~positive] = 1 - (ranks[~positive] - stats.rankdata(values[~positive])) / count
    influence = (placements - area) / np.where(positive, count, other)
    index = np.unique(np.asarray(clusters), return_inverse=True)[1]
    groups = int(index.max()) + 1
    if groups == 1:
        return Interval(area, 0.0, 1.0)
    variance = groups / (groups - 1) * float((np.bincount(index, influence) ** 2).sum())
    half = float(special.stdtrit(groups - 1, 0.5 + confidence / 2)) * variance**0.5 / (area * (1 - area))
    low, high = special.expit(special.logit(area) + np.array([-half, half]))
    return Interval(area, float(low), float(high))
