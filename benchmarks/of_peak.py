"""Compute the share of a GPU's peak that each phase of an update reaches: required operations and bytes per second.

The required work has no padding and no recomputation, and reads every weight once per decode step. Both peaks are
measured on the same GPU just before: a large product of bfloat16 matrices, and a large copy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from machine import seconds

from harken.plan.shape import ModelShape

BYTES = 2
"""Bytes of a bfloat16."""


@dataclass(frozen=True)
class Update:
    """Describe an update: all rows generated at once, one reward model of the base's size, one epoch."""

    shape: ModelShape
    rows: int
    prompt: float
    response: float

    def forward(self, length: float) -> float:
        """Return operations of the base's forward over every row; attention is causal."""
        s = self.shape
        return self.rows * length * (2 * s.linear_parameters + 2 * s.layers * s.heads * s.head_dim * length)

    def needs(self) -> dict[str, tuple[float, float]]:
        """Return operations and bytes of each phase."""
        s, length = self.shape, self.prompt + self.response
        unembedding = s.vocab_size * s.hidden_size
        head, whole = 2 * self.rows * self.response * unembedding, self.forward(length)
        key_value = 2 * s.layers * s.kv_heads * s.head_dim * BYTES
        seen = self.rows * (self.prompt + self.response / 2)
        steps = self.response * (BYTES * (s.linear_parameters + unembedding) + seen * key_value)
        each = 2 * s.linear_parameters * self.rows * self.response
        weights = BYTES * s.linear_parameters
        return {
            "generate": (self.forward(self.prompt) + each + head, steps + weights),
            "score": (whole, weights),
            "evaluate": (2 * (whole + head), 2 * (weights + BYTES * unembedding)),
            # The base is frozen: gradients of its inputs, not of its weights.
            "learn": (whole + head, weights + BYTES * unembedding),
        }


def peaks() -> dict[str, float]:
    """Measure operations and bytes per second of the GPU; {} without one."""
    if not torch.cuda.is_available():
        return {}
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    x = torch.ones(1 << 30, dtype=torch.uint8, device="cuda")
    y = torch.empty_like(x)
    found = {
        "operations": 2 * 8192**3 / _seconds(lambda: a @ b.T),  # noqa: F821  shapes
        "bytes": 2 * len(x) / _seconds(lambda: y.copy_(x)),  # noqa: F821  shapes
    }
    del a, b, x, y
    torch.cuda.empty_cache()  # the peer runs next, on the same GPU
    return found


def shares(update: Update, took: dict[str, float], peak: dict[str, float]) -> dict[str, dict[str, float]]:
    """Return of each phase its needs, the least seconds for them, and the share of either peak."""
    found = {}
    for phase, (operations, moved) in update.needs().items():
        least = max(operations / peak["operations"], moved / peak["bytes"])
        found[phase] = {
            "TFLOP": operations / 1e12,
            "GB": moved / 1e9,
            "least seconds": least,
            "seconds": took[phase],
            "of peak arithmetic": operations / took[phase] / peak["operations"],
            "of peak bandwidth": moved / took[phase] / peak["bytes"],
        }
    return found


def _seconds(work: Callable[[], object]) -> float:
    def waited() -> None:
        for _ in range(10):
            work()
        torch.cuda.synchronize()

    return seconds(waited) / 10
