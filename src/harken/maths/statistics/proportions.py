"""Compute intervals of proportions and means whose observations come in clusters, such as pairs of one prompt."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from harken.maths.statistics.intervals import Interval, score_bounds


def clustered_wilson_interval(
    successes: ArrayLike, trials: ArrayLike, confidence: float = 0.95
) -> tuple[float, float]:
    """Compute the Wilson interval (low, high) of Σ successes ÷ Σ trials over independent clusters.

    `successes` and `trials`: one number per cluster. The number of trials is replaced by the effective one,
    share · (1 − share) ÷ SE², where SE is the cluster-robust standard error of the share; never by more than the real
    one. With one trial per cluster and many clusters it is the plain Wilson interval. At a share of 0 or 1 every
    cluster counts as one trial, because its trials may be copies of one another.
    Raises ValueError when there are no trials, or successes are not within 0 … trials.
    Sources: Wilson 1927; Dean and Pagano 2015, doi:10.1093/jssam/smv024 (effective sample size); Miller 2024,
    arXiv:2411.00640 (cluster-robust SE).
    """
    right, n = np.asarray(successes, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    if right.shape != n.shape or (right < 0).any() or (right > n).any() or n.sum() < 1:
        raise ValueError(
            "a proportion needs 0 <= successes <= trials in every cluster, and at least one trial"
        )
    right, n = right[n > 0], n[n > 0]
    total, clusters = float(n.sum()), len(n)
    share = float(right.sum()) / total
    effective = float(clusters)
    if 0 < share < 1:
        correction = clusters / (clusters - 1) if clusters > 1 else 1.0
        variance = correction * float(((right - share * n) ** 2).sum()) / total**2
        effective = min(share * (1 - share) / variance, total) if variance else total
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    low, high = score_bounds(share, effective, z)
    return (0.0 if share == 0 else low), (1.0 if share == 1 else high)


def clustered_mean_interval(values: ArrayLike, clusters: ArrayLike, confidence: float = 0.95) -> Interval:
    """Compute the mean of `values` with a cluster-robust t interval. `clusters` names the cluster of each value.

    SE² = C/(C−1) · Σ_c (Σ_{i∈c} (x_i − x̄))² / n², with C − 1 degrees of freedom. With a single cluster the interval is
    infinite. Raises ValueError when there are no values, or one is not finite.
    Sources: Liang and Zeger 1986; Miller 2024, arXiv:2411.00640.
    """
    x = np.asarray(values, dtype=np.float64)
    if not len(x) or not np.isfinite(x).all():
        raise ValueError("a mean needs at least one value, and finite values")
    index = np.unique(np.asarray(clusters), return_inverse=True)[1]
    mean, count = float(x.mean()), int(index.max()) + 1
    if count == 1:
        return Interval(mean, -np.inf, np.inf)
    sums = np.bincount(index, x - mean)
    error = (count / (count - 1) * float((sums**2).sum())) ** 0.5 / len(x)
    half = float(special.stdtrit(count - 1, 0.5 + confidence / 2)) * error
    return Interval(mean, mean - half, mean + half)
