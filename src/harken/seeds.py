"""Randomness as a function: the same (root, names) always give the same numbers, whatever ran before."""

from __future__ import annotations

import hashlib

import numpy as np


def seed(root: int, *names: object) -> int:
    """A 63-bit seed for one purpose, for example ``seed(839, "rollout", step, prompt_id, sample)``."""
    text = "\x1f".join([str(root), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(root: int, *names: object) -> np.random.Generator:
    """A counter-based NumPy generator for one purpose (Philox, seeded by `seed`)."""
    return np.random.Generator(np.random.Philox(seed(root, *names)))


def permutation(count: int, root: int, *names: object) -> list[int]:
    """The numbers 0 … count-1 in an order that depends on the seed and names alone."""
    return [int(i) for i in generator(root, "permutation", *names).permutation(count)]
