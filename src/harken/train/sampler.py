"""Which rows an optimiser step sees: a function of the step, so that a resumed run needs no cursor."""

from __future__ import annotations

from harken.seeds import permutation


def num_steps(rows: int, batch_size: int, epochs: int, max_steps: int | None) -> int:
    """Optimiser steps of a run: whole passes, the last batch of a pass may be smaller."""
    steps = epochs * -(-rows // batch_size)
    return min(steps, max_steps) if max_steps else steps


def batch_indices(step: int, rows: int, batch_size: int, seed: int, label: str) -> list[int]:
    """Row numbers of optimiser step `step` (from 0). Every pass visits every row once, in its own order."""
    per_pass = -(-rows // batch_size)
    epoch, position = divmod(step, per_pass)
    order = permutation(rows, seed, label, "epoch", epoch)
    return order[position * batch_size : (position + 1) * batch_size]


def infinite_indices(first: int, count: int, rows: int, seed: int, label: str) -> list[int]:
    """Rows number first … first+count-1 of an endless stream of passes, each pass in its own order."""
    taken: list[int] = []
    while len(taken) < count:
        epoch, position = divmod(first + len(taken), rows)
        order = permutation(rows, seed, label, "epoch", epoch)
        taken += order[position : position + count - len(taken)]
    return taken
