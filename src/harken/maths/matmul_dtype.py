"""Choose the compute dtype of matrix multiplications.

A processor without native 16-bit matmuls (most laptops': no avx512, no amx) runs bfloat16 matmuls at a seventh of
float32's speed, and those of a backward pass at a hundredth (docs/log/performance.md). There, matrices are stored in 16
bits and cast to float32 for each matmul, whose result is rounded once. Results are equal up to the order of sums, and
memory use hardly changes.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache

import torch
from torch import Tensor


@cache
def has_native_bf16_matmul() -> bool:
    """Return whether this processor multiplies 16-bit matrices natively."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def matmul_dtype(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """Return the compute dtype for matrices of `dtype`: float32 for 16 bits without native support, else `dtype`."""
    narrow = dtype.itemsize < 4 and device.type == "cpu"
    return torch.float32 if narrow and not has_native_bf16_matmul() else dtype


def to_matmul_dtype(x: Tensor) -> Tensor:
    """Cast `x` to its matmul dtype; return `x` itself where that is its dtype."""
    return x.to(matmul_dtype(x.dtype, x.device))


def without_autocast(device: torch.device) -> AbstractContextManager[None]:
    """Disable autocast inside, so that it does not cast float32 matmul inputs back to 16 bits."""
    if matmul_dtype(torch.bfloat16, device) == torch.bfloat16:
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
