"""Sample rows as a function of the step, so that a resumed run needs no sampler state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import TypeVar

from harken.seeds import permutation

T = TypeVar("T", bound=Hashable)


def num_steps(rows: int, batch_size: int, epochs: int, max_steps: int | None) -> int:
    """Count the optimiser steps of a run: whole passes, each with a last batch that may be smaller."""
    steps = epochs * -(-rows // batch_size)
    return min(steps, max_steps) if max_steps else steps


def batch_indices(step: int, rows: int, batch_size: int, seed: int, label: str) -> list[int]:
    """Return the rows of optimiser step `step` (from 0). Every pass visits every row once, in its own order."""
    steps_per_epoch = -(-rows // batch_size)
    epoch, position = divmod(step, steps_per_epoch)
    order = permutation(rows, seed, label, "epoch", epoch)
    return order[position * batch_size : (position + 1) * batch_size]


def infinite_indices(first: int, count: int, rows: int, seed: int, label: str) -> list[int]:
    """Return entries first … first+count-1 of an infinite sequence of passes, each in its own order."""
    indices: list[int] = []
    while len(indices) < count:
        epoch, position = divmod(first + len(indices), rows)
        order = permutation(rows, seed, label, "epoch", epoch)
        indices += order[position : position + count - len(indices)]
    return indices


def draw_prompts(update: int, count: int, rows: int, seed: int, label: str) -> list[list[int]]:
    """Return the `count` prompts of update `update`, as lists without repeated entries; one list if all differ.

    A response is a function of (purpose, prompt, sample): a prompt drawn twice needs two purposes.
    """
    return split_repeats(infinite_indices(update * count, count, rows, seed, f"{label} prompts"))


def split_repeats(rows: Sequence[T]) -> list[list[T]]:
    """Split rows into lists without repeated entries; one list if all rows differ."""
    lists: list[list[T]] = []
    counts: Counter[T] = Counter()
    for row in rows:
        if counts[row] == len(lists):
            lists.append([])
        lists[counts[row]].append(row)
        counts[row] += 1
    return lists
