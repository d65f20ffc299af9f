"""Estimate true labels and each rater's confusion matrix from votes: the EM algorithm of Dawid and Skene.

Model: an item has the true class k with probability `prevalence[k]`; rater r then votes l with probability
`confusion[r, k, l]`, independently of the other raters. Prior: a symmetric Dirichlet on every row of every confusion
matrix, and on the prevalence, that counts as one vote (one item) spread evenly over the classes. It keeps a rater with
few votes near chance, and every probability above 0. EM starts from each item's shares of votes, which settles which
class is which, and finds a mode of the posterior near them.

Source: Dawid and Skene 1979, Applied Statistics 28:20.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from harken.maths.statistics.bootstrap import MIN_CLUSTERS, cluster_counts, percentile_interval

Array = NDArray[np.float64]
MAX_ITERATIONS = 1000
EM_TOLERANCE = 1e-10
"""EM stops when the log posterior, per vote, rises by less than this."""
RELIABILITY_DRAWS = 200


@dataclass(frozen=True, slots=True)
class VoteTable:
    """Hold votes as indices: entry v says that rater `rater[v]` gave item `item[v]` the class `label[v]`."""

    item: NDArray[np.int64]
    rater: NDArray[np.int64]
    label: NDArray[np.int64]
    items: int
    raters: int
    classes: int

    @classmethod
    def of(cls, votes: Sequence[tuple[int, int, int]], items: int, raters: int, classes: int) -> VoteTable:
        """Build a table of (item, rater, label). Raises ValueError without votes, and for an index out of range."""
        table = np.asarray(votes, dtype=np.int64).reshape(-1, 3)
        if not len(table):
            raise ValueError("there are no votes")
        if (table < 0).any() or (table >= (items, raters, classes)).any():
            raise ValueError(f"an index is outside {items} items, {raters} raters or {classes} classes")
        return cls(table[:, 0], table[:, 1], table[:, 2], items, raters, classes)


@dataclass(frozen=True, slots=True)
class DawidSkene:
    """Hold the estimates: `posterior` [items, classes], `confusion` [raters, true, voted], `prevalence` [classes].

    `log_posterior` is the maximised log density in nats, without its constant. An item without votes has the prevalence
    as its posterior, a rater without votes a uniform confusion matrix.
    """

    posterior: Array
    confusion: Array
    prevalence: Array
    log_posterior: float
    iterations: int
    converged: bool

    def reliability(self) -> Array:
        """Return the probability that a vote of each rater is right, [raters]: Σ_k prevalence_k · confusion_kk."""
        right: Array = np.einsum("k,rkk->r", self.prevalence, self.confusion)
        return right


@dataclass(frozen=True, slots=True)
class Reliability:
    """The probability that a rater's vote is right, with its 95 % bootstrap interval over items."""

    value: float
    low: float
    high: float


def dawid_skene(
    votes: VoteTable,
    *,
    prior: float = 1.0,
    max_iterations: int = MAX_ITERATIONS,
    tolerance: float = EM_TOLERANCE,
) -> DawidSkene:
    """Fit the model by EM. `prior`: the weight of the Dirichlet prior in votes; 0 gives maximum likelihood."""
    return _fit(votes, np.ones(votes.items), _vote_shares(votes), prior, max_iterations, tolerance)


def reliability_intervals(
    votes: VoteTable, fit: DawidSkene, *, prior: float = 1.0, draws: int = RELIABILITY_DRAWS, seed: int = 0
) -> list[Reliability]:
    """Return each rater's reliability with a percentile bootstrap interval: items are resampled with their votes.

    Every refit starts from the posterior of `fit`. Fewer than MIN_CLUSTERS items give the interval [0, 1].
    """
    values = fit.reliability()
    if votes.items < MIN_CLUSTERS:
        return [Reliability(float(value), 0.0, 1.0) for value in values]
    replicates = np.array(
        [
            _fit(votes, counts, fit.posterior, prior, 100, 1e-7).reliability()
            for block in cluster_counts(votes.items, draws, seed)
            for counts in block
        ]
    )
    intervals = []
    for value, rater_replicates in zip(values, replicates.T, strict=True):
        low, high = percentile_interval(rater_replicates, clusters=votes.items)
        intervals.append(Reliability(float(value), max(0.0, min(low, value)), min(1.0, max(high, value))))
    return intervals


def _fit(
    votes: VoteTable, weights: Array, posterior: Array, prior: float, max_iterations: int, tolerance: float
) -> DawidSkene:
    """Run EM from a posterior; item i counts `weights[i]` times."""
    smoothing = prior / votes.classes
    total = max(float(weights[votes.item].sum()), 1.0)
    value, iteration, converged = -np.inf, 0, False
    confusion, prevalence = _maximise(votes, weights, posterior, smoothing)
    while iteration < max_iterations and not converged:
        iteration += 1
        joint = _log_joint(votes, confusion, prevalence)
        evidence = logsumexp(joint, axis=1)
        posterior = np.exp(joint - evidence[:, None])
        before, value = value, float(weights @ evidence) + _log_prior(confusion, prevalence, smoothing)
        converged = bool(value - before <= tolerance * total)
        if not converged:
            confusion, prevalence = _maximise(votes, weights, posterior, smoothing)
    return DawidSkene(posterior, confusion, prevalence, value, iteration, converged)


def _vote_shares(votes: VoteTable) -> Array:
    cells = np.bincount(votes.item * votes.classes + votes.label, minlength=votes.items * votes.classes)
    counts = cells.reshape(votes.items, votes.classes).astype(np.float64)
    sums = counts.sum(axis=1, keepdims=True)
    return np.where(sums > 0, counts / np.maximum(sums, 1), 1 / votes.classes)


def _maximise(votes: VoteTable, weights: Array, posterior: Array, smoothing: float) -> tuple[Array, Array]:
    """Return the confusion matrices and the prevalence that maximise the expected log posterior."""
    weighted = posterior * weights[:, None]
    cells = votes.rater * votes.classes + votes.label
    counts = np.stack(
        [
            np.bincount(cells, weighted[votes.item, k], votes.raters * votes.classes)
            for k in range(votes.classes)
        ],
        axis=0,
    ).reshape(votes.classes, votes.raters, votes.classes)
    smoothed = np.swapaxes(counts, 0, 1) + smoothing
    sums = smoothed.sum(axis=2, keepdims=True)
    confusion: Array = np.where(sums > 0, smoothed / np.where(sums > 0, sums, 1), 1 / votes.classes)
    prevalence: Array = weighted.sum(axis=0) + smoothing
    return confusion, np.asarray(prevalence / prevalence.sum())


def _log_joint(votes: VoteTable, confusion: Array, prevalence: Array) -> Array:
    """Return log P(true class, votes of the item), [items, classes]."""
    with np.errstate(divide="ignore"):
        log_confusion, log_prevalence = np.log(confusion), np.log(prevalence)
    joint: NDArray[Any] = np.stack(
        [
            np.bincount(votes.item, log_confusion[votes.rater, k, votes.label], votes.items)
            for k in range(votes.classes)
        ],
        axis=1,
    )
    return joint + log_prevalence


def _log_prior(confusion: Array, prevalence: Array, smoothing: float) -> float:
    if smoothing == 0:
        return 0.0
    return smoothing * float(np.log(confusion).sum() + np.log(prevalence).sum())
