"""Measure over-optimisation: gold score against distance from the starting policy, for RL and for best of n."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from harken.maths.statistics.intervals import Interval, clustered_mean_interval

Form = Literal["rl", "best_of_n"]
MIN_POINTS = 4
"""Points below which a curve of two coefficients is not fitted."""
PEAK_DRAWS = 20_000


@dataclass(frozen=True, slots=True)
class GaoFit:
    """The coefficients of gold(d), with 95 % intervals (low, high), and where the curve is highest.

    `peak` is a distance d = √KL, in √nats; None, as are its bounds, where the curve has no maximum (β ≤ 0).
    """

    form: Form
    alpha: float
    alpha_interval: tuple[float, float]
    beta: float
    beta_interval: tuple[float, float]
    peak: float | None
    peak_interval: tuple[float, float] | None
    n: int

    def at(self, distance: float) -> float:
        """Return the gain in gold score at a distance d = √KL."""
        return self.alpha * distance - self.beta * float(_penalty(np.array([distance]), self.form)[0])


def fit_gao(kl: ArrayLike, gain: ArrayLike, form: Form, seed: int = 0) -> GaoFit | None:
    """Fit the gain in gold score over the starting policy against d = √KL by least squares.

    rl:         gain(d) = d (α − β log d)        highest at d = exp(α/β − 1)
    best_of_n:  gain(d) = d (α − β d)            highest at d = α / 2β

    `kl` in nats per sequence. Intervals are those of linear regression (Student's t), the peak's from draws of the
    coefficients; they assume independent points, so they are too narrow for checkpoints of one run.
    None for fewer than `MIN_POINTS` points with a KL above 0. Source: Gao et al. 2022 (arXiv:2210.10760), section 3.1.
    """
    distance = np.sqrt(np.maximum(np.asarray(kl, dtype=np.float64), 0.0))
    gains = np.asarray(gain, dtype=np.float64)
    keep = distance > 0
    distance, gains = distance[keep], gains[keep]
    if len(distance) < MIN_POINTS or len(set(distance.tolist())) < 2:
        return None
    design = np.column_stack([distance, -_penalty(distance, form)])
    (alpha, beta), *_ = np.linalg.lstsq(design, gains, rcond=None)
    free = len(distance) - 2
    residuals = gains - design @ np.array([alpha, beta])
    if float(np.abs(residuals).max()) <= 1e-12 * max(float(np.abs(gains).max()), 1e-300):
        # A curve through every point leaves no residual to estimate its error from.
        unbounded = (-math.inf, math.inf)
        peak = _peak(alpha, beta, form)
        bounds = None if peak is None else (0.0, math.inf)
        return GaoFit(form, float(alpha), unbounded, float(beta), unbounded, peak, bounds, len(distance))
    covariance = np.linalg.pinv(design.T @ design) * float(residuals @ residuals) / free
    t = float(stats.t.ppf(0.975, free))
    errors = t * np.sqrt(np.maximum(np.diag(covariance), 0.0))
    peak = _peak(alpha, beta, form)
    return GaoFit(
        form,
        float(alpha),
        (float(alpha - errors[0]), float(alpha + errors[0])),
        float(beta),
        (float(beta - errors[1]), float(beta + errors[1])),
        peak,
        _peak_interval(np.array([alpha, beta]), covariance, free, form, seed) if peak is not None else None,
        len(distance),
    )


def _penalty(distance: NDArray[np.float64], form: Form) -> NDArray[np.float64]:
    """Return the coefficient of −β in the curve: d log d, which is 0 at 0, or d²."""
    if form == "best_of_n":
        return distance**2
    return np.where(distance > 0, distance * np.log(np.where(distance > 0, distance, 1.0)), 0.0)


def _peak(alpha: float, beta: float, form: Form) -> float | None:
    if beta <= 0 or (form == "best_of_n" and alpha <= 0):
        return None
    exponent = alpha / beta - 1
    if form == "rl":
        return math.exp(exponent) if exponent < 50 else None
    return float(alpha / (2 * beta))


def _peak_interval(
    mean: NDArray[np.float64], covariance: NDArray[np.float64], free: int, form: Form, seed: int
) -> tuple[float, float]:
    """Return the 95 % interval of the peak; infinity above where draws have no maximum."""
    random = np.random.default_rng(seed)
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    normal = random.standard_normal((PEAK_DRAWS, 2)) @ root.T
    scale = np.sqrt(free / random.chisquare(free, PEAK_DRAWS))[:, None]
    alpha, beta = (mean + normal * scale).T
    with np.errstate(over="ignore", divide="ignore"):
        peaks = np.exp(alpha / beta - 1) if form == "rl" else alpha / (2 * beta)
    peaks = np.where((beta <= 0) | ((form == "best_of_n") & (alpha <= 0)), np.inf, peaks)
    low, high = np.quantile(peaks, [0.025, 0.975], method="nearest")
    return float(low), float(high)


def selection_weights(scores: ArrayLike, n: int) -> NDArray[np.float64]:
    """Return the probability that each of N samples has the highest score among n drawn without replacement.

    The sample of rank i (1 is the lowest) is the best of C(i − 1, n − 1) of the C(N, n) draws; equal scores share their
    chances. Σ weights · gold estimates the best of n without bias, with less variance than one draw.
    Source: Nakano et al. 2021 (arXiv:2112.09332), appendix I. Raises ValueError unless 1 <= n <= N.
    """
    score_array = np.asarray(scores, dtype=np.float64)
    if not 1 <= n <= len(score_array):
        raise ValueError(f"n is {n}; it must be between 1 and the number of samples, {len(score_array)}")
    subsets = math.comb(len(score_array), n)
    chance = np.array([math.comb(i, n - 1) / subsets for i in range(len(score_array))])
    values, rank = np.unique(score_array, return_inverse=True)
    shared = np.bincount(np.sort(rank), chance, minlength=len(values)) / np.bincount(
        rank, minlength=len(values)
    )
    weights: NDArray[np.float64] = shared[rank]
    return weights


def best_of_n_means(chosen_by: Iterable[ArrayLike], gold: Iterable[ArrayLike], n: int) -> NDArray[np.float64]:
    """Return, for each prompt, the expected `gold` of the best of n by `chosen_by`, from the scores of its samples."""
    return np.array(
        [
            selection_weights(scores, n) @ np.asarray(row_values, dtype=np.float64)
            for scores, row_values in zip(chosen_by, gold, strict=True)
        ]
    )


def best_of_n_mean(chosen_by: Iterable[ArrayLike], gold: Iterable[ArrayLike], n: int) -> Interval:
    """Compute the expected `gold` of the best of n by `chosen_by`, averaged over prompts, with its t interval.

    Both hold the scores of every prompt's samples, at least n each. Raises ValueError as `selection_weights` and
    `clustered_mean_interval` do.
    """
    means = best_of_n_means(chosen_by, gold, n)
    return clustered_mean_interval(means, np.arange(len(means)))


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where the learned reward rose while a judge fell: indices of the two points, and the changes between them.

    `error` is the standard error of the judge's change.
    """

    start: int
    end: int
    reward_change: float
    judge_change: float
    error: float


def find_divergence(
    reward: Sequence[float], judge: Sequence[float], judge_error: Sequence[float], limit: float = 2.0
) -> Divergence | None:
    """Find the judge's fall from its best point to the last one while the reward rose; None if it is within error.

    Values are those of successive checkpoints. The judge's fall counts where it exceeds `limit` standard errors of the
    difference, √(error² + error²), which holds for independent responses and is too wide for paired ones.
    """
    if len(reward) < 2:
        return None
    end = len(reward) - 1
    start = max(range(end), key=lambda i: judge[i])
    error = math.hypot(judge_error[start], judge_error[end])
    fall, rise = judge[end] - judge[start], reward[end] - reward[start]
    if rise <= 0 or fall >= 0 or -fall <= limit * error:
        return None
    return Divergence(start, end, rise, fall, error)
