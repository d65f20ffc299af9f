"""Split the variance of a mean into that of prompts and that of the samples of one prompt."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

SAMPLE_COUNTS = (1, 2, 4, 8, 16)
"""Numbers of samples per prompt for which a standard error is predicted."""


@dataclass(frozen=True, slots=True)
class VarianceSplit:
    """The variance of prompt means and of samples about them, in squared units of the values.

    `standard_errors` maps a number of samples per prompt to the standard error of the mean it would have with the same
    number of prompts; `limit` is that of infinitely many samples.
    """

    prompt: float
    sample: float
    standard_errors: Mapping[int, float]
    limit: float


def split_variance(values: ArrayLike) -> VarianceSplit:
    """Estimate Var(prompt) and Var(sample) from values [prompts, samples]: Var(mean) = (prompt + sample / k) / n.

    Method of moments of the one-way random-effects model; a negative estimate of Var(prompt) becomes 0.
    Raises ValueError for fewer than 2 prompts or 2 samples.
    Source: Searle, Casella and McCulloch 1992, Variance Components, section 3.5; Miller 2024, arXiv 2411.00640.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or min(table.shape) < 2:
        raise ValueError(f"a variance split needs at least 2 prompts and 2 samples each, got {table.shape}")
    prompts, samples = table.shape
    within = float(table.var(axis=1, ddof=1).mean())
    between = max(float(table.mean(axis=1).var(ddof=1)) - within / samples, 0.0)
    errors = {k: math.sqrt((between + within / k) / prompts) for k in SAMPLE_COUNTS}
    return VarianceSplit(between, within, errors, math.sqrt(between / prompts))
