"""Adjust p-values for the number of tests."""

from __future__ import annotations

from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values so that the chance of any false rejection stays below the level, in the order given.

    Source: Holm 1979, Scand. J. Statist. 6:65.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Return q-values in the order given: the false discovery rate if this p and all smaller ones are rejected.

    Source: Benjamini and Hochberg 1995, J. R. Statist. Soc. B 57:289.
    """
    q_values = [0.0] * len(p_values)
    smallest = 1.0
    for rank, i in reversed(
        list(enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i]), start=1))
    ):
        smallest = min(smallest, len(p_values) / rank * p_values[i])
        q_values[i] = smallest
    return q_values
