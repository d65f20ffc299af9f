"""Round sizes up to a few values, so that oneDNN reuses its compiled kernels.

On a CPU oneDNN compiles a kernel for every new combination of matmul sizes, about 1 ms and 0.6 MB each, and caches a
thousand of them. With unrounded sizes the cache grew by 0.1 GB per PPO update and took 5 % of its time
(docs/log/performance.md).
"""

from __future__ import annotations

import os

MAX_CACHED_KERNELS = 256


def limit_kernel_cache() -> None:
    """Limit oneDNN's kernel cache to a quarter of its default. Has no effect after the first matmul."""
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(MAX_CACHED_KERNELS))


def round_up(size: int, step: int) -> int:
    """Return the smallest multiple of `step` that is at least `size`."""
    return -(-size // step) * step
