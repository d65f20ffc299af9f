"""Measure how far raters agree: Krippendorff's alpha, kappas, percent agreement, and how well one rater predicts the
others.

The last is a ceiling for a reward model: an accuracy above it on the same pairs suggests that they were in the
training data. A score is negative for the first response, positive for the second, 0 a tie.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from harken.maths.statistics.bootstrap import MIN_CLUSTERS, cluster_counts, is_constant, percentile_interval
from harken.maths.statistics.intervals import clustered_jeffreys, rule_of_three

MeasurementLevel = Literal["nominal", "ordinal", "interval"]
ALPHA_DRAWS = 2000


@dataclass(frozen=True, slots=True)
class RaterCeiling:
    """The share of `cases` in which a rater agrees with the majority of the others, with its 95 % interval.

    `rows`: rows with at least one such case.
    """

    rows: int
    cases: int
    agreement: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class AgreementInterval:
    """Hold alpha, a kappa or percent agreement over `rows` rows, with its 95 % bootstrap interval over rows."""

    rows: int
    value: float
    low: float
    high: float


def krippendorff_alpha(rows: Sequence[Sequence[float]], level: MeasurementLevel = "ordinal") -> float | None:
    """Compute Krippendorff's alpha: 1 - observed ÷ expected disagreement.

    None where the expected disagreement is 0. Rows may have different numbers of raters; those with fewer than two are
    ignored. The squared distance of two ordinal values is (number of scores from one to the other, the outer two
    counted half)², that of two interval values (difference)², that of two different nominal values 1. Source:
    Krippendorff 2011, "Computing Krippendorff's alpha-reliability", sections D and E.
    """
    per_row, values = _coincidences(rows)
    coincidences = per_row.sum(axis=0)
    value = float(_alphas(coincidences[None], level, values)[0]) if coincidences.any() else np.nan
    return None if np.isnan(value) else value


def alpha_interval(
    rows: Sequence[Sequence[float]],
    level: MeasurementLevel = "ordinal",
    draws: int = ALPHA_DRAWS,
    seed: int = 0,
) -> AgreementInterval | None:
    """Compute Krippendorff's alpha with a percentile bootstrap interval over rows; None as `krippendorff_alpha`.

    Rows are resampled with all their ratings. Where no row has a disagreement the bootstrap does not vary, and the
    lower bound is alpha if as many rows disagreed by the largest distance as the rule of three allows. Where all rows
    have the same disagreement it does not vary either, and the bounds are twice that share away. Fewer than
    `MIN_CLUSTERS` rows have the interval [-1, 1].
    """
    per_row, values = _coincidences(rows)
    value = krippendorff_alpha(rows, level)
    if value is None:
        return None
    size = per_row.shape[1]
    flat = per_row.reshape(len(per_row), size * size)
    bootstrap_alphas = np.concatenate(
        [
            _alphas((counts @ flat).reshape(-1, size, size), level, values)
            for counts in cluster_counts(len(per_row), draws, seed)
        ]
    )
    defined = bootstrap_alphas[~np.isnan(bootstrap_alphas)]
    if len(per_row) < MIN_CLUSTERS or not len(defined):
        return AgreementInterval(len(per_row), value, -1.0, 1.0)
    if is_unvaried(defined):
        if value < 1:
            possible = 2 * rule_of_three(len(per_row))
            return AgreementInterval(
                len(per_row), value, max(-1.0, value - possible), min(1.0, value + possible)
            )
        lowest = _lowest_alpha(per_row.sum(axis=0), level, values, len(per_row))
        return AgreementInterval(len(per_row), value, lowest, 1.0)
    low, high = percentile_interval(defined, clusters=len(per_row))
    return AgreementInterval(len(per_row), value, low, min(high, 1.0))


def is_unvaried(figures: NDArray[Any]) -> bool:
    """Return whether agreement figures, of the order of 1 or 0, are equal up to rounding of numbers near 1."""
    return is_constant(2.0 + figures)


def percent_agreement(rows: Sequence[Sequence[Hashable]]) -> float | None:
    """Compute the share of pairs of raters with the same rating, averaged over rows; None without two ratings."""
    shares = []
    for row in rows:
        if len(row) >= 2:
            equal = sum(row[i] == row[j] for i in range(len(row)) for j in range(i))
            shares.append(equal / (len(row) * (len(row) - 1) / 2))
    return float(np.mean(shares)) if shares else None


def cohen_kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float | None:
    """Compute Cohen's kappa of two raters who rated the same rows; None where chance agreement is 1.

    Source: Cohen 1960, Educational and Psychological Measurement 20:37. Raises ValueError for different lengths.
    """
    names = sorted({*first, *second}, key=repr)
    index = {name: i for i, name in enumerate(names)}
    table = np.zeros((len(names), len(names)))
    for a, b in zip(first, second, strict=True):
        table[index[a], index[b]] += 1
    total = table.sum()
    if not total:
        return None
    expected = float(table.sum(axis=0) @ table.sum(axis=1)) / total**2
    return None if expected >= 1 else (float(np.trace(table)) / float(total) - expected) / (1 - expected)


def fleiss_kappa(rows: Sequence[Sequence[Hashable]]) -> float | None:
    """Compute Fleiss' kappa; None where chance agreement is 1 or there are no rows.

    Every row has the same number of ratings, two or more; else ValueError.
    Source: Fleiss 1971, Psychological Bulletin 76:378.
    """
    if not rows:
        return None
    ratings = len(rows[0])
    if ratings < 2 or any(len(row) != ratings for row in rows):
        raise ValueError("Fleiss' kappa needs the same number of ratings, two or more, in every row")
    names = sorted({name for row in rows for name in row}, key=repr)
    counts = np.array([[list(row).count(name) for name in names] for row in rows], dtype=np.float64)
    observed = float(((counts**2).sum(axis=1) - ratings).mean()) / (ratings * (ratings - 1))
    expected = float(((counts.sum(axis=0) / counts.sum()) ** 2).sum())
    return None if expected >= 1 else (observed - expected) / (1 - expected)


def rater_ceiling(rows: Sequence[Sequence[float]]) -> RaterCeiling | None:
    """Compute leave-one-rater-out agreement: each rater's side against the side that most of the others chose.

    Ties of the rater and of the others are left out, as label ties are left out of a reward model's accuracy. Raters
    who guess agree in half of the cases. The interval is clustered by row. None when no row has a case.
    """
    agreed, cases = [], []
    for row in rows:
        signs = np.sign(np.asarray(row, dtype=np.float64))
        rest_verdict = np.sign(signs.sum() - signs)
        decided = (signs != 0) & (rest_verdict != 0)
        agreed.append(int((signs == rest_verdict)[decided].sum()))
        cases.append(int(decided.sum()))
    if not sum(cases):
        return None
    interval = clustered_jeffreys(agreed, cases)
    return RaterCeiling(sum(n > 0 for n in cases), sum(cases), interval.mean, interval.low, interval.high)


def _coincidences(rows: Sequence[Sequence[float]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the coincidence matrix of each row with two or more ratings, [rows, values, values], and the values."""
    rated = [row for row in rows if len(row) >= 2]
    values = sorted({score for row in rated for score in row})
    index = {value: i for i, value in enumerate(values)}
    coincidences = np.zeros((len(rated), len(values), len(values)))
    for place, row in enumerate(rated):
        counts = np.bincount([index[score] for score in row], minlength=len(values)).astype(float)
        coincidences[place] = (np.outer(counts, counts) - np.diag(counts)) / (len(row) - 1)
    return coincidences, np.array(values, dtype=np.float64)


def _distances(marginal: NDArray[Any], level: MeasurementLevel, values: NDArray[Any]) -> NDArray[Any]:
    """Return the squared distances of values, [sets, values, values], from their counts [sets, values]."""
    size = marginal.shape[1]
    if level == "nominal":
        return np.broadcast_to(1.0 - np.eye(size), (len(marginal), size, size))
    if level == "interval":
        return np.broadcast_to((values[:, None] - values[None, :]) ** 2, (len(marginal), size, size))
    middle = np.cumsum(marginal, axis=1) - marginal / 2
    squared: NDArray[Any] = (middle[:, :, None] - middle[:, None, :]) ** 2
    return squared


def _alphas(coincidences: NDArray[Any], level: MeasurementLevel, values: NDArray[Any]) -> NDArray[Any]:
    """Return alpha of each coincidence matrix [sets, values, values]; NaN where the expected disagreement is 0."""
    marginal = coincidences.sum(axis=2)
    distance = _distances(marginal, level, values)
    expected = np.einsum("di,dj,dij->d", marginal, marginal, distance)
    observed = np.einsum("dij,dij->d", coincidences, distance)
    with np.errstate(invalid="ignore", divide="ignore"):
        alphas: NDArray[Any] = 1.0 - observed * (marginal.sum(axis=1) - 1) / expected
    alphas[expected == 0] = np.nan
    return alphas


def _lowest_alpha(
    coincidences: NDArray[Any], level: MeasurementLevel, values: NDArray[Any], rows: int
) -> float:
    """Return alpha if a share of the ratings, by the rule of three, disagreed by the largest distance."""
    marginal = coincidences.sum(axis=1)
    distance = _distances(marginal[None], level, values)[0]
    total = float(marginal.sum())
    expected = float(marginal @ distance @ marginal) / (total * (total - 1))
    return max(-1.0, 1.0 - rule_of_three(rows) * float(distance.max()) / expected)
