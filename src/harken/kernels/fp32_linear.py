"""Compute frozen 16-bit linear layers in float32 where the CPU has no fast 16-bit matmul (`maths.matmul_dtype`).

The weights stay in 16 bits. torch's own matmul of float32 copies would save those copies for the backward pass, for
every layer.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from harken.maths.matmul_dtype import matmul_dtype, to_matmul_dtype, without_autocast


def install(model: nn.Module) -> None:
    """Replace the forward of every plain linear layer whose matmul dtype differs from its weight dtype."""
    for module in model.modules():
        if type(module) is nn.Linear and _needs_fp32(module.weight):
            layer: Any = module
            layer.forward = Fp32LinearForward(layer)


class Fp32LinearForward:
    """x W' + b, summed in float32 and rounded once."""

    def __init__(self, layer: nn.Linear) -> None:
        self.layer = layer

    def __call__(self, x: Tensor) -> Tensor:
        """[..., in] → [..., out]. A trainable weight uses torch's own linear."""
        weight, bias = self.layer.weight, self.layer.bias
        if weight.requires_grad:
            return F.linear(x, weight, bias)
        y: Tensor = _Fp32Linear.apply(x.to(weight.dtype), weight, bias)  # type: ignore[no-untyped-call]
        return y


class _Fp32Linear(torch.autograd.Function):
    """y = x W' + b      dx = dy W"""

    @staticmethod
    def forward(
        ctx: Any,
        x: Float[Tensor, "*shape inputs"],
        weight: Float[Tensor, "outputs inputs"],
        bias: Float[Tensor, " outputs"] | None,
    ) -> Float[Tensor, "*shape outputs"]:
        ctx.save_for_backward(weight)
        with without_autocast(x.device):
            y = F.linear(
                to_matmul_dtype(x), to_matmul_dtype(weight), None if bias is None else to_matmul_dtype(bias)
            )
        return y.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return (to_matmul_dtype(grad_y) @ to_matmul_dtype(weight)).to(grad_y.dtype), None, None


def _needs_fp32(weight: Tensor) -> bool:
    return matmul_dtype(weight.dtype, weight.device) != weight.dtype
