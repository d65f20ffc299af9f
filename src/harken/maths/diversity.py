"""Measure the diversity of a set of responses."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence


def distinct_n(sequences: Iterable[Sequence[Hashable]], n: int) -> float:
    """Compute distinct n-grams ÷ all n-grams over all sequences; no n-gram spans two of them. 0 when there are none.

    1: no n-gram occurs twice. It falls as texts grow longer, so compare it only at similar lengths.
    Source: Li et al. 2016 (arXiv:1510.03055) section 5.
    """
    grams = [tuple(items[i : i + n]) for items in sequences for i in range(len(items) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


def unique_items(sequences: Iterable[Iterable[Hashable]]) -> int:
    """Count the distinct items (tokens, words) over all sequences."""
    return len({item for items in sequences for item in items})
