"""A processor with avx512_bf16: bitsandbytes repacks 4-bit weights for a kernel of its own, and 16-bit matrices are
multiplied as they are.

The kernel runs on such a processor alone, so a slow stand-in computes what it computes.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from harken.maths import matmul_dtype

PROCESSORS = ["this", "avx512_bf16"]
BLOCK = 32
"""Outputs whose numbers lie side by side in the kernel's layout."""


def pretend(monkeypatch: pytest.MonkeyPatch, processor: str) -> None:
    """From now on layers of bitsandbytes are made for this processor, and matmuls run in its dtypes."""
    if processor == "this":
        return
    import bitsandbytes

    monkeypatch.setattr(matmul_dtype, "has_native_bf16_matmul", lambda: True)
    monkeypatch.setattr(bitsandbytes.nn.modules, "has_avx512bf16", lambda: True)
    monkeypatch.setattr(bitsandbytes.functional, "gemv_4bit", packed_product)


def packed_product(A: Tensor, B: Tensor, out: Tensor | None = None, state: Any = None) -> Tensor:
    """x W' with W from the kernel's layout: codes in blocks of outputs, scales rounded to bfloat16."""
    outputs, inputs = state.shape
    lines = B.reshape(-1, BLOCK)
    codes = torch.cat([lines & 0xF, lines >> 4], -1).view(outputs // BLOCK, inputs // 2, BLOCK, 2)
    codes = codes.transpose(1, 2).reshape(outputs, inputs)
    scales = state.absmax.float().T.repeat_interleave(state.blocksize, -1)
    weight = state.code[codes.long()] * scales
    return (A.float() @ weight.T).to(A.dtype)
