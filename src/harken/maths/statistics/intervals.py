"""Compute confidence intervals of proportions and means. NumPy only."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

BOOTSTRAP_BLOCK = 2_000_000
"""Numbers that the bootstrap draws at a time: 16 MB for any sample size."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Hold a mean and its confidence interval, in the units of the values."""

    mean: float
    low: float
    high: float


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Compute the Wilson score interval (low, high) of a proportion: within [0, 1], and valid for small n.

    Raises ValueError when n is 0 or successes are not within 0 … n.
    Source: Wilson 1927, JASA 22:209.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"a proportion needs 0 <= successes <= n and n >= 1, got {successes} of {n}")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half_width = z / (1 + z**2 / n) * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    # At 0 and n the bounds are exactly 0 and 1; rounding would be off by 1e-17.
    return (
        (0.0 if successes == 0 else centre - half_width),
        (1.0 if successes == n else centre + half_width),
    )


def bootstrap_mean(
    values: ArrayLike, draws: int = 10_000, seed: int = 0, confidence: float = 0.95
) -> Interval:
    """Compute the mean of `values` with its percentile bootstrap interval.

    Raises ValueError when there are no values, or one is not finite.
    Source: Efron 1979, Annals of Statistics 7:1.
    """
    sample = _finite(values)
    random = np.random.default_rng(seed)
    rows = max(BOOTSTRAP_BLOCK // len(sample), 1)
    means = [
        sample[random.integers(len(sample), size=(min(rows, draws - done), len(sample)))].mean(axis=1)
        for done in range(0, draws, rows)
    ]
    low, high = np.quantile(np.concatenate(means), [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Interval(float(sample.mean()), float(low), float(high))


def paired_bootstrap(
    left: ArrayLike, right: ArrayLike, draws: int = 10_000, seed: int = 0, confidence: float = 0.95
) -> Interval:
    """Compute the mean of right - left, pair by pair, with its percentile bootstrap interval.

    `left[i]` and `right[i]` belong to the same prompt, and are resampled together.
    Raises ValueError when the lengths differ, there are no pairs, or a value is not finite.
    """
    first, second = _finite(left), _finite(right)
    if len(first) != len(second):
        raise ValueError(f"pairs need as many values left as right, got {len(first)} and {len(second)}")
    return bootstrap_mean(second - first, draws, seed, confidence)


def _finite(values: ArrayLike) -> NDArray[Any]:
    array = np.asarray(values, dtype=np.float64).reshape(-1)
    if not len(array):
        raise ValueError("a bootstrap needs at least one value, got none")
    if not np.isfinite(array).all():
        raise ValueError("a bootstrap needs finite values, got NaN or infinity")
    return array
