"""Measure how well P(A ≻ B) = σ((r_A − r_B) / T) predicts which response is preferred.

A reward model of the Bradley–Terry family states a probability for every pair. Pairs have no first side, so everything
here is computed on folded pairs: the confidence is the probability of the side that the model prefers, in [0.5, 1], and
the outcome is the probability (usually 0 or 1) that this side is the better one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from harken.maths.statistics.intervals import wilson_interval

BINS = 15
MIN_PAIRS_PER_BIN = 10
TEMPERATURE_RANGE = (1e-3, 1e3)
NULL_DRAWS = 1000

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """One bin of a reliability diagram: pairs, mean confidence, share correct with its 95 % Wilson interval."""

    pairs: int
    confidence: float
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class BrierParts:
    """The Murphy decomposition: score = reliability − resolution + uncertainty + within_bins.

    `within_bins` is the part that binning leaves over: variance of the confidences inside bins, minus twice their
    covariance with the outcomes (Stephenson, Coelho and Jolliffe 2008).
    """

    score: float
    reliability: float
    resolution: float
    uncertainty: float
    within_bins: float


@dataclass(frozen=True, slots=True)
class CalibrationError:
    """The expected calibration error, and what a perfectly calibrated model of the same confidences would show.

    `null_mean` and `null_high`: mean and 95th percentile of the error over simulated outcomes. `p_value`: the share of
    simulations (the observed one counted) with at least this error.
    """

    error: float
    null_mean: float
    null_high: float
    p_value: float


def preference_probability(gaps: ArrayLike, temperature: float = 1.0) -> Floats:
    """Compute P(A ≻ B) of reward differences r_A − r_B (Bradley and Terry 1952)."""
    probabilities: Floats = special.expit(np.asarray(gaps, dtype=np.float64) / temperature)
    return probabilities


def fold_pairs(gaps: ArrayLike, labels: ArrayLike, temperature: float = 1.0) -> tuple[Floats, Floats]:
    """Return the confidence in the preferred side of each pair, and the probability that it is the better side.

    `labels` are probabilities that the first side is better. Equal rewards have confidence 0.5 and keep their label.
    """
    p, label = preference_probability(gaps, temperature), np.asarray(labels, dtype=np.float64)
    first = p >= 0.5
    return np.where(first, p, 1 - p), np.where(first, label, 1 - label)


def negative_log_likelihood(gaps: ArrayLike, labels: ArrayLike, temperature: float = 1.0) -> float:
    """Compute the mean cross-entropy, in nats, of the labels under P(A ≻ B). Guessing costs log 2."""
    z, label = np.asarray(gaps, dtype=np.float64) / temperature, np.asarray(labels, dtype=np.float64)
    return float(np.mean(label * np.logaddexp(0, -z) + (1 - label) * np.logaddexp(0, z)))


def brier_score(confidence: ArrayLike, outcome: ArrayLike) -> float:
    """Compute the mean squared difference of confidence and outcome. Guessing costs 0.25 (Brier 1950)."""
    p, y = np.asarray(confidence, dtype=np.float64), np.asarray(outcome, dtype=np.float64)
    return float(np.mean((p - y) ** 2))


def equal_mass_bins(confidence: ArrayLike, bins: int = BINS) -> NDArray[np.int64]:
    """Assign each confidence to one of at most `bins` bins of equally many; equal confidences share a bin.

    There are fewer bins when they would hold fewer than MIN_PAIRS_PER_BIN pairs. Numbers are consecutive from 0.
    Raises ValueError when there are no confidences.
    """
    p = np.asarray(confidence, dtype=np.float64)
    if not len(p):
        raise ValueError("bins need at least one confidence, got none")
    count = max(min(bins, len(p) // MIN_PAIRS_PER_BIN), 1)
    edges = np.quantile(p, np.arange(1, count) / count, method="inverted_cdf")
    return np.unique(np.searchsorted(np.unique(edges), p), return_inverse=True)[1]


def reliability_bins(confidence: ArrayLike, outcome: ArrayLike, bins: int = BINS) -> list[ReliabilityBin]:
    """Compute the bins of a reliability diagram. Soft outcomes are rounded in sum for the intervals."""
    p, y = np.asarray(confidence, dtype=np.float64), np.asarray(outcome, dtype=np.float64)
    index = equal_mass_bins(p, bins)
    filled = []
    for bin_index in range(int(index.max()) + 1):
        members = index == bin_index
        n, right = int(members.sum()), float(y[members].sum())
        low, high = wilson_interval(round(right), n)
        filled.append(ReliabilityBin(n, float(p[members].mean()), right / n, low, high))
    return filled


def brier_parts(confidence: ArrayLike, outcome: ArrayLike, bins: int = BINS) -> BrierParts:
    """Decompose the Brier score over equal-mass bins (Murphy 1973)."""
    p, y = np.asarray(confidence, dtype=np.float64), np.asarray(outcome, dtype=np.float64)
    index = equal_mass_bins(p, bins)
    size = np.bincount(index)
    mean_p, mean_y = np.bincount(index, p) / size, np.bincount(index, y) / size
    inside_p, inside_y = p - mean_p[index], y - mean_y[index]
    return BrierParts(
        score=brier_score(p, y),
        reliability=float(np.average((mean_p - mean_y) ** 2, weights=size)),
        resolution=float(np.average((mean_y - y.mean()) ** 2, weights=size)),
        uncertainty=float(y.var()),
        within_bins=float(np.mean(inside_p**2) - 2 * np.mean(inside_p * inside_y)),
    )


def calibration_error(
    confidence: ArrayLike, outcome: ArrayLike, bins: int = BINS, draws: int = NULL_DRAWS, seed: int = 0
) -> CalibrationError:
    """Compute the expected calibration error over equal-mass bins, with its finite-sample null.

    ECE = Σ_b n_b/n · |accuracy_b − confidence_b| is above 0 even for a perfectly calibrated model, the more so the
    fewer pairs there are. The null draws outcomes from Bernoulli(confidence). Sources: Naeini et al. 2015 (ECE);
    Bröcker and Smith 2007 (consistency resampling).
    """
    p, y = np.asarray(confidence, dtype=np.float64), np.asarray(outcome, dtype=np.float64)
    order = np.argsort(equal_mass_bins(p, bins), kind="stable")
    index, p, y = equal_mass_bins(p, bins)[order], p[order], y[order]
    starts = np.flatnonzero(np.diff(index, prepend=-1))

    def error(outcomes: Floats) -> Any:
        return np.abs(np.add.reduceat(outcomes - p, starts, axis=-1)).sum(axis=-1) / len(p)

    observed = float(error(y))
    random = np.random.default_rng(seed)
    null = np.array([error((random.random(len(p)) < p).astype(np.float64)) for _ in range(draws)])
    return CalibrationError(
        error=observed,
        null_mean=float(null.mean()),
        null_high=float(np.quantile(null, 0.95)),
        p_value=float((1 + np.sum(null >= observed)) / (1 + draws)),
    )


def fit_temperature(gaps: ArrayLike, labels: ArrayLike) -> float | None:
    """Fit the temperature T that minimises the negative log-likelihood, within TEMPERATURE_RANGE.

    Above 1 the model is overconfident, below 1 underconfident. None when no T > 0 beats guessing: the rewards do not
    agree with the labels on average. Source: Guo et al. 2017, arXiv:1706.04599.
    """
    gap, label = np.asarray(gaps, dtype=np.float64), np.asarray(labels, dtype=np.float64)

    def slope(inverse: float) -> float:
        return float(np.mean(gap * (special.expit(gap * inverse) - label)))

    if slope(0.0) >= 0:
        return None
    coldest, hottest = 1 / TEMPERATURE_RANGE[0], 1 / TEMPERATURE_RANGE[1]
    if slope(coldest) <= 0:
        return TEMPERATURE_RANGE[0]
    if slope(hottest) >= 0:
        return TEMPERATURE_RANGE[1]
    return float(1 / optimize.brentq(slope, hottest, coldest, xtol=1e-13, rtol=1e-13))
