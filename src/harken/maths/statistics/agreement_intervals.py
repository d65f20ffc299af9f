"""Bootstrap percent agreement and kappas over rows, as `alpha_interval` does for Krippendorff's alpha.

Each figure is a function of sums over rows, so a resample is one product of row counts and the rows' columns.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from harken.maths.statistics.agreement import (
    ALPHA_DRAWS,
    AgreementInterval,
    cohen_kappa,
    fleiss_kappa,
    is_unvaried,
    percent_agreement,
)
from harken.maths.statistics.bootstrap import MIN_CLUSTERS, cluster_counts, percentile_interval
from harken.maths.statistics.intervals import rule_of_three

Array = NDArray[np.float64]


def percent_agreement_interval(
    rows: Sequence[Sequence[Hashable]], draws: int = ALPHA_DRAWS, seed: int = 0
) -> AgreementInterval | None:
    """Compute percent agreement with its 95 % bootstrap interval over rows; None without a row of two ratings."""
    rated = [row for row in rows if len(row) >= 2]
    shares = np.array([[percent_agreement([row]) or 0.0] for row in rated])
    return _interval(
        percent_agreement(rated), shares, lambda sums: sums[:, 0] / len(rated), (0.0, 1.0), draws, seed
    )


def cohen_interval(
    first: Sequence[Hashable], second: Sequence[Hashable], draws: int = ALPHA_DRAWS, seed: int = 0
) -> AgreementInterval | None:
    """Compute Cohen's kappa with its 95 % bootstrap interval over rows; None as `cohen_kappa`."""
    names = sorted({*first, *second}, key=repr)
    index = {name: i for i, name in enumerate(names)}
    size = len(names)
    cells = np.zeros((len(first), size * size))
    for row, (a, b) in enumerate(zip(first, second, strict=True)):
        cells[row, index[a] * size + index[b]] = 1

    def kappas(sums: Array) -> Array:
        tables = sums.reshape(-1, size, size) / len(first)
        expected = np.einsum("di,di->d", tables.sum(axis=1), tables.sum(axis=2))
        return _chance_corrected(np.einsum("dii->d", tables), expected)

    return _interval(cohen_kappa(first, second), cells, kappas, (-1.0, 1.0), draws, seed)


def fleiss_interval(
    rows: Sequence[Sequence[Hashable]], draws: int = ALPHA_DRAWS, seed: int = 0
) -> AgreementInterval | None:
    """Compute Fleiss' kappa with its 95 % bootstrap interval over rows; None and ValueError as `fleiss_kappa`."""
    value = fleiss_kappa(rows)
    if value is None:
        return None
    names = sorted({name for row in rows for name in row}, key=repr)
    counts = np.array([[list(row).count(name) for name in names] for row in rows], dtype=np.float64)
    ratings = len(rows[0])
    agreeing = ((counts**2).sum(axis=1) - ratings) / (ratings * (ratings - 1))

    def kappas(sums: Array) -> Array:
        categories = sums[:, 1:] / (ratings * len(rows))
        return _chance_corrected(sums[:, 0] / len(rows), (categories**2).sum(axis=1))

    return _interval(value, np.column_stack([agreeing, counts]), kappas, (-1.0, 1.0), draws, seed)


def _chance_corrected(observed: Array, expected: Array) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        corrected: Array = (observed - expected) / (1 - expected)
    corrected[expected >= 1] = np.nan
    return corrected


def _interval(
    value: float | None,
    columns: Array,
    statistic: Callable[[Array], Array],
    limits: tuple[float, float],
    draws: int,
    seed: int,
) -> AgreementInterval | None:
    """Resample the rows of `columns` and return the interval of `statistic`, a function of their sums [draws, columns].

    Fewer than MIN_CLUSTERS rows have the interval `limits`. Where replicates do not vary, the raters agreed on every
    row (or on none): the bound on the other side is what the rule of three allows for the share of other rows.
    """
    if value is None:
        return None
    rows = len(columns)
    replicates = np.concatenate([statistic(counts @ columns) for counts in cluster_counts(rows, draws, seed)])
    defined = replicates[~np.isnan(replicates)]
    if rows < MIN_CLUSTERS or not len(defined):
        return AgreementInterval(rows, value, *limits)
    if is_unvaried(defined):
        possible = rule_of_three(rows) * (limits[1] - limits[0])
        return AgreementInterval(
            rows, value, max(limits[0], value - possible), min(limits[1], value + possible)
        )
    low, high = percentile_interval(defined, clusters=rows)
    return AgreementInterval(rows, value, max(limits[0], low), min(limits[1], high))
