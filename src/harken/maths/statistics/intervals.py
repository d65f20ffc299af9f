"""Compute confidence intervals of proportions and means."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from harken.maths.statistics.bootstrap import is_constant


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its confidence interval, in the units of the values.

    The bounds are infinite where the error of the mean cannot be estimated from the values.
    """

    mean: float
    low: float
    high: float

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """Return low and high for JSON, which has no infinity: None for an infinite bound."""
        return finite_or_none(self.low), finite_or_none(self.high)


def finite_or_none(value: float) -> float | None:
    """Return a bound for JSON, which has no infinity: None where it is infinite."""
    return float(value) if math.isfinite(value) else None


TOO_FEW_PROMPTS = "too few prompts for an interval"
"""`no_interval` of an estimate over fewer clusters than its interval needs."""
UNVARIED = "no interval: all prompts have the same value"
"""`no_interval` of an estimate whose clusters do not differ."""


def no_interval(low: float | None, reason: str) -> dict[str, str]:
    """Return {"no_interval": reason} for JSON where an estimate has no lower bound; {} where it has one."""
    return {} if low is not None else {"no_interval": reason}


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Compute the Wilson score interval (low, high) of a proportion: within [0, 1], and valid for small n.

    Raises ValueError when n is 0 or successes are not within 0 … n.
    Source: Wilson 1927, JASA 22:209.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"a proportion needs 0 <= successes <= n and n >= 1, got {successes} of {n}")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    low, high = score_bounds(successes / n, n, z)
    # At 0 and n the bounds are exactly 0 and 1; rounding would be off by 1e-17.
    return (0.0 if successes == 0 else low), (1.0 if successes == n else high)


def score_bounds(share: float, n: int | float, z: float) -> tuple[float, float]:
    """Compute the Wilson bounds (low, high): the shares at which the score test of `share` of `n` rows has ±z."""
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half_width = z / (1 + z**2 / n) * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    return centre - half_width, centre + half_width


def clustered_jeffreys(
    numerators: ArrayLike, denominators: ArrayLike, confidence: float = 0.95, *, halves: bool = False
) -> Interval:
    """Compute the interval of a share whose rows are not independent, or not 0 or 1, from sums per cluster.

    The share is sum(numerators) / sum(denominators), such as wins ÷ decided rows. Its variance is estimated from the
    spread of the clusters (linearised ratio), and n becomes the number of independent rows that would have this
    variance, but at most as many as there are, reduced by (z / t)² for the few degrees of freedom; the interval is
    Jeffreys' at this n. If the clusters do not differ at all, it is Wilson's and n is the number of clusters.
    `halves`: rows may count by part (a tie as half a win), so they vary less than 0 and 1 do and may be worth more.
    Raises ValueError when the denominators sum to 0 or the share is not within [0, 1].
    Source: Korn and Graubard 1998, Survey Methodology 24:193 (effective n); Franco, Little, Louis and Slud 2019,
    J. Survey Statistics and Methodology 7:334 (with Jeffreys and Wilson).
    """
    top, bottom = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    used = bottom > 0
    top, bottom = top[used], bottom[used]
    total, clusters = float(bottom.sum()), len(bottom)
    if total <= 0 or not 0 <= top.sum() <= total:
        raise ValueError(
            f"a share needs a denominator above 0 and a value in [0, 1], got {top.sum()} of {total}"
        )
    share, level = float(top.sum() / total), 0.5 + confidence / 2
    variance = float(((top - share * bottom) ** 2).sum()) / total**2
    z = float(special.ndtri(level))
    if clusters < 2 or variance == 0 or share in (0, 1):
        low, high = score_bounds(share, clusters, z)
        return Interval(share, 0.0 if share == 0 else low, 1.0 if share == 1 else high)
    t = float(special.stdtrit(clusters - 1, level))
    rows = share * (1 - share) / variance
    n = (rows if halves else min(rows, total)) * (z / t) ** 2
    a, b = share * n + 0.5, (1 - share) * n + 0.5
    return Interval(share, float(special.betaincinv(a, b, 1 - level)), float(special.betaincinv(a, b, level)))


def rule_of_three(n: int) -> float:
    """Return the upper bound of a rate (one-sided, 95 %) when n rows showed no case: 3 / n, at most 1.

    Raises ValueError when n is 0. Source: Hanley and Lippman-Hand 1983, JAMA 249:1743.
    """
    if n < 1:
        raise ValueError("a rate needs at least one row, got none")
    return min(1.0, 3.0 / n)


def clustered_mean_interval(
    values: ArrayLike,
    clusters: ArrayLike,
    confidence: float = 0.95,
    limits: tuple[float, float] | None = None,
) -> Interval:
    """Compute the mean of `values` with a cluster-robust t interval. `clusters` names the cluster of each value.

    SE² = C/(C−1) · Σ_c (Σ_{i∈c} (x_i − x̄))² / n², with C − 1 degrees of freedom. With a single cluster, and where all
    values are equal, the error cannot be estimated: the interval is infinite, or with the `limits` of the values that
    of `unvaried_interval`. No interval goes beyond the limits. Raises ValueError when there are no values, or when one
    is not finite.
    Sources: Liang and Zeger 1986; Miller 2024, arXiv:2411.00640.
    """
    x = _finite(values)
    index = np.unique(np.asarray(clusters), return_inverse=True)[1]
    mean, count = float(x.mean()), int(index.max()) + 1
    if count == 1 or is_constant(x):
        return unvaried_interval(mean, count, limits, confidence)
    sums = np.bincount(index, x - mean)
    error = (count / (count - 1) * float((sums**2).sum())) ** 0.5 / len(x)
    half = float(special.stdtrit(count - 1, 0.5 + confidence / 2)) * error
    least, most = limits or (-np.inf, np.inf)
    return Interval(mean, max(mean - half, least), min(mean + half, most))


def unvaried_interval(
    value: float, units: int, limits: tuple[float, float] | None, confidence: float = 0.95
) -> Interval:
    """Compute the interval of a mean when all `units` independent units have the same value.

    At this confidence at most a share u = 1 − (1 − confidence)^(1 / units) of all units has another value (the exact
    upper limit of a rate without a case; about 3 / units). If every value lies within `limits`, the mean is therefore
    within u of the way from `value` to each of them. Without limits the other values are unbounded, and so is the
    interval. Source: Clopper and Pearson 1934, Biometrika 26:404; Hanley and Lippman-Hand 1983, JAMA 249:1743.
    """
    if limits is None:
        return Interval(value, -np.inf, np.inf)
    share = 1 - (1 - confidence) ** (1 / units)
    return Interval(value, value + share * (limits[0] - value), value + share * (limits[1] - value))


def _finite(values: ArrayLike) -> NDArray[Any]:
    array = np.asarray(values, dtype=np.float64).reshape(-1)
    if not len(array):
        raise ValueError("a mean needs at least one value, got none")
    if not np.isfinite(array).all():
        raise ValueError("a mean needs finite values, got NaN or infinity")
    return array
