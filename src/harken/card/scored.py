"""Scored pairs, with the labels, gaps and accuracy that the sections of a card are computed from. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from harken.data.parse import Pair
from harken.data.sources import prompt_key
from harken.maths.statistics.intervals import (
    TOO_FEW_PROMPTS,
    UNVARIED,
    Interval,
    clustered_jeffreys,
    no_interval,
)
from harken.records import Preference, Prompt

RewardArray = NDArray[np.float64]
Section = dict[str, Any]
"""One section of card.json."""


class PairScorer(Protocol):
    """Computes raw rewards, without offset and scale; NaN where a conversation cannot be encoded."""

    def score_pairs(self, pairs: Sequence[Pair]) -> RewardArray:
        """Return the rewards of chosen and rejected, [pairs, 2]."""
        ...

    def score_responses(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> RewardArray:
        """Return the reward of each response to its prompt."""
        ...


@dataclass(frozen=True)
class ScoredPairs:
    """Pairs and the raw rewards of their sides, [pairs, 2]: chosen, rejected."""

    pairs: Sequence[Pair]
    rewards: RewardArray

    def __len__(self) -> int:
        return len(self.pairs)

    @cached_property
    def label(self) -> RewardArray:
        """The probability that `chosen` is the better side."""
        return np.array([pair.label for pair in self.pairs], dtype=np.float64)

    @cached_property
    def gap(self) -> RewardArray:
        """Reward of chosen minus that of rejected."""
        gap: RewardArray = self.rewards[:, 0] - self.rewards[:, 1]
        return gap

    @cached_property
    def side(self) -> RewardArray:
        """1 where the label prefers `chosen`, -1 where it prefers `rejected`, 0 for a tie."""
        sign: RewardArray = np.sign(self.label - 0.5)
        return sign

    @cached_property
    def margin(self) -> RewardArray:
        """Reward of the preferred side minus that of the other; 0 for a label tie."""
        return self.gap * self.side

    @cached_property
    def decided(self) -> NDArray[np.bool_]:
        """Whether the label prefers a side."""
        decided: NDArray[np.bool_] = self.side != 0
        return decided

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """Whether the preferred side has the strictly higher reward; equal rewards are wrong."""
        right: NDArray[np.bool_] = self.margin > 0
        return right

    @cached_property
    def prompts(self) -> NDArray[np.int64]:
        """A number per distinct prompt: pairs of one prompt form a cluster."""
        return np.unique([prompt_key(pair) for pair in self.pairs], return_inverse=True)[1]

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Characters of both responses (tokens of pre-tokenised pairs), [pairs, 2]."""
        return np.array([_lengths(pair) for pair in self.pairs], dtype=np.int64).reshape(-1, 2)

    @cached_property
    def preferred_longer(self) -> NDArray[np.int64]:
        """Length of the preferred side minus that of the other; 0 for a label tie."""
        return ((self.lengths[:, 0] - self.lengths[:, 1]) * self.side).astype(np.int64)

    def select(self, mask: NDArray[np.bool_]) -> ScoredPairs:
        """Return the pairs of a mask."""
        return ScoredPairs([p for p, keep in zip(self.pairs, mask, strict=True) if keep], self.rewards[mask])

    def accuracy(self, right: NDArray[Any] | None = None) -> Section | None:
        """Compute the share of decided pairs that are right, with its 95 % interval clustered by prompt.

        `right` replaces `correct` for every pair, as numbers within [0, 1]. None without decided pairs.
        """
        if not self.decided.any():
            return None
        values = (self.correct if right is None else right)[self.decided].astype(np.float64)
        clusters = self.prompts[self.decided]
        trials = np.bincount(clusters)
        interval = clustered_jeffreys(np.bincount(clusters, values), trials, halves=right is not None)
        n, total = int(self.decided.sum()), float(values.sum())
        return {
            "pairs": n,
            "prompts": int((trials > 0).sum()),
            "share": total / n,
            "low": interval.low,
            "high": interval.high,
        }


def score(scorer: PairScorer, pairs: Sequence[Pair]) -> tuple[ScoredPairs, int]:
    """Score pairs; also return how many could not be scored, which are left out."""
    rewards = scorer.score_pairs(pairs) if pairs else np.zeros((0, 2))
    finite = np.atleast_1d(np.isfinite(rewards).all(axis=1))
    return ScoredPairs(list(pairs), rewards).select(finite), int((~finite).sum())


def interval_section(interval: Interval, prompts: int) -> Section:
    """Return an interval over `prompts` prompts as JSON; infinite bounds become None, and "no_interval" says why."""
    low, high = interval.bounds
    reason = UNVARIED if prompts > 1 else TOO_FEW_PROMPTS
    return {"mean": interval.mean, "low": low, "high": high} | no_interval(low, reason)


def name_of(read: Callable[[Preference], str]) -> Callable[[Pair], str]:
    """Return a function that reads a name of a pair, "" for pre-tokenised ones."""
    return lambda pair: read(pair) if isinstance(pair, Preference) else ""


def _lengths(pair: Pair) -> tuple[int, int]:
    if isinstance(pair, Preference):
        return len(pair.chosen), len(pair.rejected)
    return len(pair.chosen_tokens), len(pair.rejected_tokens)
