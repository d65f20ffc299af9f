"""Compute what a study of a given size can detect, and the size that a study needs. Normal approximations."""

from __future__ import annotations

import math
from statistics import NormalDist

POWER = 0.8
"""Chance of a significant result if the difference is real."""


def detectable_win_rate(n: int, power: float = POWER, confidence: float = 0.95) -> float:
    """Compute the smallest true win rate above 0.5 that n decided prompts detect with this power, two-sided.

    Normal approximation at p = 1/2; 1 when n is too small for any win rate. n=200: 0.599, n=2017: 0.531.
    """
    return min(1.0, 0.5 + _quantiles(power, confidence) * 0.5 / math.sqrt(n))


def prompts_for_win_rate(win_rate: float, power: float = POWER, confidence: float = 0.95) -> int:
    """Compute how many decided prompts detect this true win rate with this power, two-sided.

    The inverse of `detectable_win_rate`. Raises ValueError for a win rate of 0.5, which no sample size detects, or
    outside [0, 1].
    """
    if not 0 <= win_rate <= 1 or win_rate == 0.5:
        raise ValueError(f"a detectable win rate is in [0, 1] and not 0.5, got {win_rate}")
    return math.ceil((_quantiles(power, confidence) * 0.5 / abs(win_rate - 0.5)) ** 2)


def detectable_mean_difference(
    standard_error: float, power: float = POWER, confidence: float = 0.95
) -> float:
    """Compute the smallest true mean difference that an estimate with this standard error detects, two-sided.

    In the units of the standard error. Source: Miller 2024, arXiv 2411.00640, section 5.
    """
    return _quantiles(power, confidence) * standard_error


def _quantiles(power: float, confidence: float) -> float:
    z = NormalDist().inv_cdf
    return z(0.5 + confidence / 2) + z(power)
