"""In which type matrices are multiplied.

A processor without 16-bit multiplications (most laptops': no avx512, no amx) takes a bfloat16 product at a seventh of
float32's speed, and those of a backward pass at a hundredth (LOG.md). There, matrices stay in 16 bits wherever they
are kept, and are made float32 for the moment of a product, whose sum is rounded once: the same numbers up to the order
of sums, and no more memory to speak of.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache

import torch
from torch import Tensor


@cache
def has_native_bf16_matmul() -> bool:
    """Whether this processor's products of 16-bit matrices are fast."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def matmul_dtype(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """The type in which matrices of `dtype` are multiplied: float32 for 16 bits where those are slow, else the same."""
    narrow = dtype.itemsize < 4 and device.type == "cpu"
    return torch.float32 if narrow and not has_native_bf16_matmul() else dtype


def to_matmul_dtype(x: Tensor) -> Tensor:
    """`x` in the type its products are taken in: itself where that is its own."""
    return x.to(matmul_dtype(x.dtype, x.device))


def without_autocast(device: torch.device) -> AbstractContextManager[None]:
    """Inside, autocast does not make 16 bits again of what was made float32 for a product."""
    if matmul_dtype(torch.bfloat16, device) == torch.bfloat16:
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
