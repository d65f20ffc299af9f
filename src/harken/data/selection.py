"""Choose the held-out prompts that select a best checkpoint. They are not among those that are reported."""

from __future__ import annotations

from collections.abc import Iterable

from harken import seeds


def selection_prompts(ids: Iterable[str], fraction: float, seed: int) -> set[str]:
    """Return the ids of `fraction` of the prompts, at least one unless it is 0. Depends on seed and ids only."""
    ordered = sorted(set(ids), key=lambda name: (seeds.derive_seed(seed, "selection", name), name))
    return set(ordered[: max(round(len(ordered) * fraction), 1)]) if fraction else set()
