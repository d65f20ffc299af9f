"""Sizes that come again.

On a CPU the library behind torch makes a kernel for every new combination of sizes it multiplies, about a millisecond
and 0.6 MB each, and keeps a thousand of them: with sizes as they come, kernels took 0.1 GB more with every update of
PPO and a twentieth of its time (LOG.md). Sizes rounded up to a few values meet kernels that are there.
"""

from __future__ import annotations

import os

MAX_CACHED_KERNELS = 256


def limit_kernel_cache() -> None:
    """Let the library keep a quarter of what it would. To no effect once it has begun to multiply."""
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(MAX_CACHED_KERNELS))


def round_up(size: int, step: int) -> int:
    """The least multiple of `step` that is not below `size`."""
    return -(-size // step) * step
