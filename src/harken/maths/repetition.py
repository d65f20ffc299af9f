"""Measure repetition in a text. Plain Python."""

from __future__ import annotations

from collections.abc import Hashable, Sequence


def repeated_ngram_fraction(items: Sequence[Hashable], n: int = 4) -> float:
    """Compute the share of n-grams that occurred before: 1 - unique / all. 0 when `items` is shorter than n.

    `items` are words or token ids.
    """
    grams = [tuple(items[i : i + n]) for i in range(len(items) - n + 1)]
    return 1.0 - len(set(grams)) / len(grams) if grams else 0.0
