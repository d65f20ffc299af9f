"""Measure how much a reward changes with irrelevant inputs: batch, padding, white space, dtype."""

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
    """A pair scorer that also scores token sequences in batches of any size."""

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
    """Score the sides of `pairs` in one batch, one at a time, with trailing white space, and in float32 if possible.

    `repeatability`: the 99th percentile of |Δr| between the batch and each response alone. Two rewards closer than this
    are a tie.
    """
    sides = scorer.encode_pair_sides(pairs)
    batched = scorer.score_tokens(sides)
    unbatched = np.concatenate([scorer.score_tokens([side], 1) for side in sides] or [np.zeros(0)])
    section: Section = {"responses": len(sides), "batch": _moves(batched - unbatched)}
    section["repeatability"] = section["batch"]["q99"] if sides else 0.0
    texts = [pair for pair in pairs if isinstance(pair, Preference)]
    if texts:
        with_spaces = [
            replace(p, chosen=p.chosen.rstrip() + " \n", rejected=p.rejected.rstrip() + " \n") for p in texts
        ]
        stripped = [replace(p, chosen=p.chosen.rstrip(), rejected=p.rejected.rstrip()) for p in texts]
        changes = scorer.score_pairs(with_spaces) - scorer.score_pairs(stripped)
        section["white_space"] = _moves(changes[np.isfinite(changes).all(axis=1)].reshape(-1))
    if score_in_float32 is not None and sides:
        section["dtype"] = _moves(batched - score_in_float32(sides))
    return section


def _moves(change: RewardArray) -> Section:
    size = np.abs(change)
    if not len(size):
        return {"mean": 0.0, "q99": 0.0, "largest": 0.0}
    return {
        "mean": float(size.mean()),
        "q99": float(np.quantile(size, REPEATABILITY_QUANTILE)),
        "largest": float(size.max()),
    }
