"""Derive random numbers from (root, names) alone, independent of any earlier draws."""

from __future__ import annotations

import hashlib

import numpy as np


def derive_seed(root: int, *names: object) -> int:
    """Derive a 63-bit seed for one purpose, for example ``derive_seed(839, "rollout", step, prompt_id, sample)``."""
    text = "\x1f".join([str(root), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(root: int, *names: object) -> np.random.Generator:
    """Create a counter-based NumPy generator for one purpose (Philox, seeded by `derive_seed`)."""
    return np.random.Generator(np.random.Philox(derive_seed(root, *names)))


def permutation(count: int, root: int, *names: object) -> list[int]:
    """Return 0 … count-1 in an order that depends only on the seed and names."""
    return [int(i) for i in generator(root, "permutation", *names).permutation(count)]
