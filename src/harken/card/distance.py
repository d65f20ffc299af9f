"""Compute accuracy by distance from the SFT model: the log-probability of a pair's responses under it. No torch.

A reward model learns from responses of its data, and during PPO it scores responses that move away from the SFT model
(Gao et al. 2022, arXiv:2210.10760). Its accuracy where responses are unlikely under that model says how far it can be
trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from harken.card.scored import RewardArray, ScoredPairs, Section
from harken.data.parse import Pair

DISTANCE_BINS = 5
MIN_DISTANCE_BIN_PAIRS = 10
"""Pairs of a bin; with fewer than `DISTANCE_BINS` times as many there are fewer bins."""


@dataclass(frozen=True)
class SFTReference:
    """Name the SFT model and how it was found: "lineage" or "option".

    `logprobs` returns the mean log-probability per token of chosen and rejected, [pairs, 2], nats; NaN where a pair
    cannot be encoded or a response has no token.
    """

    name: str
    found_by: str
    logprobs: Callable[[Sequence[Pair]], RewardArray]


def distance_section(scored: ScoredPairs, reference: SFTReference) -> Section | None:
    """Compute the accuracy in quantile bins of the mean log-probability of a pair's responses, the nearest bin first.

    A pair's place is the mean of its two sides' means per token, so long responses are not farther for being long.
    None without a decided pair that the reference can score.
    """
    decided = scored.select(scored.decided)
    each = reference.logprobs(decided.pairs) if len(decided) else np.zeros((0, 2))
    known = np.atleast_1d(np.isfinite(each).all(axis=1))
    kept, each = decided.select(known), each[known]
    if not len(kept):
        return None
    rows, preferred = np.arange(len(kept)), np.where(kept.side > 0, 0, 1)
    place = each.mean(axis=1)
    return {
        "reference": reference.name,
        "found_by": reference.found_by,
        "pairs": len(kept),
        "unscored": int((~known).sum()),
        "preferred_logprob": float(each[rows, preferred].mean()),
        "other_logprob": float(each[rows, 1 - preferred].mean()),
        "bins": [_bin(kept, place, inside) for inside in _quantile_masks(place)],
    }


def _quantile_masks(place: RewardArray) -> list[np.ndarray]:
    """Return the mask of each bin, that of the highest log-probabilities first; equal values share a bin."""
    count = max(1, min(DISTANCE_BINS, len(place) // MIN_DISTANCE_BIN_PAIRS))
    edges = np.unique(np.quantile(place, np.arange(1, count) / count, method="inverted_cdf"))
    index = np.searchsorted(edges, place)
    return [index == number for number in np.unique(index)[::-1]]


def _bin(kept: ScoredPairs, place: RewardArray, inside: np.ndarray) -> Section:
    accuracy = kept.select(inside).accuracy()
    assert accuracy is not None  # every pair is decided
    own = place[inside]
    return {"from": float(own.max()), "to": float(own.min()), "mean": float(own.mean()), **accuracy}
