"""Compare two policies prompt by prompt: tests and effect sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from harken.maths.statistics.bootstrap import is_constant
from harken.maths.statistics.intervals import Interval

BISECTIONS = 60
"""Halvings of the range of the differences in the search for a rank: 1e-18 of it is left."""


def sign_test(wins: int, losses: int) -> float:
    """Compute the exact two-sided p-value of `wins` against `losses` when both are equally likely, without ties.

    1 when both counts are 0. Raises ValueError when a count is negative.
    Source: Arbuthnot 1710; the binomial test at one half.
    """
    if wins < 0 or losses < 0:
        raise ValueError(f"wins and losses are counts, got {wins} and {losses}")
    n, fewer = wins + losses, min(wins, losses)
    ways, tail = 1, 1
    for k in range(fewer):
        ways = ways * (n - k) // (k + 1)
        tail += ways
    p: float = 2 * tail / 2**n
    return min(p, 1.0)


def mcnemar_test(only_left: int, only_right: int) -> float:
    """Compute the exact two-sided p-value of a change of a rate from the prompts on which the two sides differ.

    Prompts on which both sides agree give no information about a difference, so this is the sign test of the others.
    Source: McNemar 1947, Psychometrika 12:153.
    """
    return sign_test(only_right, only_left)


def wilcoxon_test(differences: ArrayLike) -> float:
    """Compute the two-sided p-value of the Wilcoxon signed-rank test that differences are symmetric about 0.

    Zeros are left out; 1 when all are zero. Exact for at most 50 differences without ties, else normal.
    Source: Wilcoxon 1945, Biometrics Bulletin 1:80.
    """
    values = np.asarray(differences, dtype=np.float64).reshape(-1)
    values = values[values != 0]
    if not len(values):
        return 1.0
    return float(stats.wilcoxon(values).pvalue)


def hodges_lehmann(
    differences: ArrayLike, confidence: float = 0.95, clusters: ArrayLike | None = None
) -> Interval:
    """Compute the median of the averages of all pairs of differences (a pair may be one difference twice).

    The interval holds every shift that the signed-rank test at this level accepts, with its normal approximation; its
    bounds are such averages too. `clusters` labels differences that are not independent: the variance of the signed
    ranks is then that of their sums per cluster, and t replaces z. Where the test accepts every shift, as it does for
    fewer than 6 differences at 95 %, the interval is infinite. If all differences are equal, the interval is
    that value: the median of averages differs from it only if less than √½ of all differences have this value, and
    then n equal ones have probability at most 2^(−n/2); where that is above 1 − confidence, the interval is infinite.
    Raises ValueError without differences. Source: Hodges and Lehmann 1963, Ann. Math. Statist. 34:598; clusters:
    Rosner, Glynn and Lee 2006, Biometrics 62:185.
    """
    values = np.asarray(differences, dtype=np.float64).reshape(-1)
    n = len(values)
    if not n:
        raise ValueError("an estimate needs at least one difference, got none")
    ordered, total = np.sort(values), n * (n + 1) // 2
    centre = (_walsh_average(ordered, (total - 1) // 2) + _walsh_average(ordered, total // 2)) / 2
    units = n if clusters is None else len(np.unique(np.asarray(clusters)))
    # The smallest p of the signed-rank test of n differences is 2 / 2^n.
    unbounded = 2.0 ** (1 - units) > 1 - confidence
    if unbounded or (is_constant(values) and 2.0 ** (-units / 2) > 1 - confidence):
        return Interval(centre, -np.inf, np.inf)
    scale = special.ndtri(0.5 + confidence / 2) * np.sqrt(n * (n + 1) * (2 * n + 1) / 24)
    if clusters is not None:
        scale *= _cluster_inflation(values - centre, np.asarray(clusters), confidence)
    first = int(np.floor(total / 2 - scale))
    if first < 0:
        return Interval(centre, -np.inf, np.inf)
    return Interval(
        centre, _walsh_average(ordered, first), _walsh_average(ordered, max(total - 1 - first, first))
    )


def cohen_dz(differences: ArrayLike) -> float | None:
    """Return the mean difference over the standard deviation (n − 1) of the differences; None if that is 0.

    Source: Cohen 1988, Statistical Power Analysis, section 2.3.5.
    """
    values = np.asarray(differences, dtype=np.float64).reshape(-1)
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return float(values.mean()) / spread if spread > 0 else None


def clustered_standard_error(values: ArrayLike, clusters: ArrayLike) -> float | None:
    """Compute the standard error of a mean whose values are independent between clusters only; None for one cluster.

    √(C / (C − 1) Σ_c (Σ_{i in c} (x_i − x̄))²) / n; with one value per cluster this is s / √n.
    Source: Liang and Zeger 1986, Biometrika 73:13; Miller 2024, arXiv 2411.00640.
    """
    sample = np.asarray(values, dtype=np.float64).reshape(-1)
    labels, index = np.unique(np.asarray(clusters).reshape(-1), return_inverse=True)
    if len(labels) < 2:
        return None
    sums = np.bincount(index, sample - sample.mean())
    return float(np.sqrt(len(labels) / (len(labels) - 1) * (sums**2).sum()) / len(sample))


def _walsh_average(ordered: NDArray[Any], rank: int) -> float:
    """Return the average (x_i + x_j) / 2, i <= j, that has `rank` smaller ones, from sorted values.

    The n (n + 1) / 2 averages are not materialised; a bisection counts those below a bound.
    """
    n = len(ordered)
    row = np.arange(n)

    def not_above(bound: float) -> int:
        # For each i, the j >= i with x_i + x_j <= 2 × bound: those of the sorted values up to one place.
        places = np.searchsorted(ordered, 2 * bound - ordered, side="right")
        return int(np.maximum(places - row, 0).sum())

    low, high = float(ordered[0]), float(ordered[-1])
    if not_above(low) > rank:
        return low
    for _ in range(BISECTIONS):
        middle = low + (high - low) / 2
        if not_above(middle) > rank:
            high = middle
        else:
            low = middle
    # The smallest average above `low` is the result; `high` is within rounding of it.
    partners = np.searchsorted(ordered, 2 * low - ordered, side="right")
    valid = partners < n
    return float((ordered[valid] + ordered[partners[valid]]).min() / 2)


def _cluster_inflation(shifted: NDArray[Any], labels: NDArray[Any], confidence: float) -> float:
    """Return the ratio by which clusters widen the interval of the signed-rank statistic."""
    ranks = np.sign(shifted) * stats.rankdata(np.abs(shifted))
    names, index = np.unique(labels.reshape(-1), return_inverse=True)
    if len(names) < 2 or not (ranks**2).sum():
        return 1.0
    sums = np.bincount(index, ranks)
    level = 0.5 + confidence / 2
    quantiles = special.stdtrit(len(names) - 1, level) / special.ndtri(level)
    return float(quantiles * np.sqrt((sums**2).sum() / (ranks**2).sum()))
