"""Compute accuracy by distance from the SFT model: the log-probability of a pair's responses under it. No torch.

A reward model learns from responses of its data, and during PPO it scores responses that move away from the SFT model
(Gao et al. 2022, arXiv:2210.10760). Its accuracy on responses that are unlikely under that model shows how far it can
be trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from harken.card.scored import RewardArray, ScoredPairs, Section
from harken.data.parse import Pair

DISTANCE_BINS = 5
MIN_DISTANCE_BIN_PAIRS = 10
"""Minimum pairs per bin; with fewer than `DISTANCE_BINS` times as many, fewer bins are used."""


@dataclass(frozen=True)
class SFTReference:
    """The SFT model and how it was found: "lineage" or "option".

    `logprobs` returns the mean log-probability per token of chosen and rejected, [pairs, 2], nats; NaN where a pair
    cannot be encoded or a response has no token.
    """

    name: str
    found_by: str
    logprobs: Callable[[Sequence[Pair]], RewardArray]


def distance_section(scored: ScoredPairs, reference: SFTReference) -> Section | None:
    """Compute the accuracy in quantile bins of the mean log-probability of a pair's responses, the nearest bin first.

    A pair's log-probability is the mean of its two sides' means per token, so length alone adds no distance.
    None without a decided pair that the reference can score.
    """
    decided = scored.select(scored.decided)
    logprobs = reference.logprobs(decided.pairs) if len(decided) else np.zeros((0, 2))
    finite = np.atleast_1d(np.isfinite(logprobs).all(axis=1))
    measured, logprobs = decided.select(finite), logprobs[finite]
    if not len(measured):
        return None
    rows, preferred = np.arange(len(measured)), np.where(measured.side > 0, 0, 1)
    mean_logprob = logprobs.mean(axis=1)
    return {
        "reference": reference.name,
        "found_by": reference.found_by,
        "pairs": len(measured),
        "unscored": int((~finite).sum()),
        "preferred_logprob": float(logprobs[rows, preferred].mean()),
        "other_logprob": float(logprobs[rows, 1 - preferred].mean()),
        "bins": [_bin(measured, mean_logprob, mask) for mask in _quantile_masks(mean_logprob)],
    }


def _quantile_masks(mean_logprob: RewardArray) -> list[np.ndarray]:
    """Return the mask of each bin, the highest log-probabilities first; equal values share a bin."""
    count = max(1, min(DISTANCE_BINS, len(mean_logprob) // MIN_DISTANCE_BIN_PAIRS))
    edges = np.unique(np.quantile(mean_logprob, np.arange(1, count) / count, method="inverted_cdf"))
    index = np.searchsorted(edges, mean_logprob)
    return [index == bin_index for bin_index in np.unique(index)[::-1]]


def _bin(measured: ScoredPairs, mean_logprob: RewardArray, mask: np.ndarray) -> Section:
    accuracy = measured.select(mask).accuracy()
    assert accuracy is not None  # every pair is decided
    bin_logprobs = mean_logprob[mask]
    return {
        "from": float(bin_logprobs.max()),
        "to": float(bin_logprobs.min()),
        "mean": float(bin_logprobs.mean()),
        **accuracy,
    }
