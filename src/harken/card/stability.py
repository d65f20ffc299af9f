"""Measure how much a reward moves when nothing that should matter changes: batch, padding, white space, dtype."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from harken.card.scored import PairScorer, RewardArray, Section
from harken.data.parse import Pair
from harken.records import Preference

REPEATABILITY_QUANTILE = 0.99
"""The scorer's repeatability is this quantile of |Δr|."""


class TokenScorer(PairScorer, Protocol):
    """Score token sequences in batches of any size, besides what every scorer does."""

    def encode_pair_sides(self, pairs: Sequence[Pair]) -> list[tuple[int, ...]]:
        """Return the token sequences of both sides of the pairs that fit."""
        ...

    def score_tokens(
        self, sequences: Sequence[Sequence[int] | None], batch_tokens: int | None = None
    ) -> RewardArray:
        """Return the raw rewards of token sequences."""
        ...


def repeatability_section(
    scorer: TokenScorer,
    pairs: Sequence[Pair],
    score_in_float32: Callable[[list[tuple[int, ...]]], RewardArray] | None,
) -> Section:
    """Score the sides of `pairs` together, alone, with trailing white space, and in float32 where that is given.

    `repeatability`: the 99th percentile of |Δr| between the batch and each response alone. Two rewards closer than this
    are a tie.
    """
    sides = scorer.encode_pair_sides(pairs)
    together = scorer.score_tokens(sides)
    alone = np.concatenate([scorer.score_tokens([side], 1) for side in sides] or [np.zeros(0)])
    found: Section = {"responses": len(sides), "batch": _moves(together - alone)}
    found["repeatability"] = found["batch"]["q99"] if sides else 0.0
    texts = [pair for pair in pairs if isinstance(pair, Preference)]
    if texts:
        spaced = [
            replace(p, chosen=p.chosen.rstrip() + " \n", rejected=p.rejected.rstrip() + " \n") for p in texts
        ]
        plain = [replace(p, chosen=p.chosen.rstrip(), rejected=p.rejected.rstrip()) for p in texts]
        moved = scorer.score_pairs(spaced) - scorer.score_pairs(plain)
        found["white_space"] = _moves(moved[np.isfinite(moved).all(axis=1)].reshape(-1))
    if score_in_float32 is not None and sides:
        found["dtype"] = _moves(together - score_in_float32(sides))
    return found


def _moves(change: RewardArray) -> Section:
    size = np.abs(change)
    if not len(size):
        return {"mean": 0.0, "q99": 0.0, "largest": 0.0}
    return {
        "mean": float(size.mean()),
        "q99": float(np.quantile(size, REPEATABILITY_QUANTILE)),
        "largest": float(size.max()),
    }
