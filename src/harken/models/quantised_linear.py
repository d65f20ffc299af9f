"""Linear layers whose weights are stored in 8 or 4 bits: x W' + b with W as it is stored, the same on every processor.

bitsandbytes chooses a layer's matmul by processor, by device and by whether gradients are needed. Two of its choices
do not fit a policy whose samples are scored by another forward. On a CPU with avx512_bf16 it repacks 4-bit weights in
place, and rounds their scales, at the first forward without gradients. In 8 bits it rounds activations as well, and
chooses the columns it exempts over all rows of a batch, so a row's result depends on the other rows.
Here W is dequantised to the compute dtype temporarily for each matmul, forward and backward, and the stored weights are
not changed. On a GPU, 4-bit layers keep the library's kernel, which computes the same matmul without storing W.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from peft.utils.integrations import dequantize_bnb_weight
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from harken.maths.matmul_dtype import to_matmul_dtype, without_autocast
from harken.models.quantised import int8_scales, is_quantised


def install(model: nn.Module, dtype: torch.dtype) -> None:
    """Replace the forward of every quantised linear layer; `dtype` is the compute dtype."""
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if not isinstance(module, nn.Linear) or weight is None or not is_quantised(weight):
            continue
        layer: Any = module
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False  # in case bitsandbytes' own forward is called
        if weight.device.type == "cpu" or not hasattr(weight, "quant_state"):
            layer.forward = QuantisedForward(layer, dtype)


def dequantise(weight: Any, dtype: torch.dtype) -> Float[Tensor, "outputs inputs"]:
    """Return the weights of a quantised parameter in `dtype`.

        8 bits: W = q × s / 127, a scale s per output        4 bits: W = table[q] × s, a scale s per block

    The 8-bit numbers are multiplied in float32 and rounded once. Raises ValueError for 4-bit weights in the layout that
    bitsandbytes' CPU kernel uses: read as plain weights they would be wrong.
    """
    state = getattr(weight, "quant_state", None)
    if state is None:
        dequantised: Tensor = weight.detach().to(dtype)
        return dequantised.mul_(int8_scales(weight)[:, None] * (1 / 127))
    if getattr(state, "packing_format_for_cpu", False):
        raise ValueError(
            "4-bit weights are in the layout of bitsandbytes' CPU kernel: dequantise them before"
        )
    widened: Tensor = dequantize_bnb_weight(weight)
    return widened.to(dtype)


class QuantisedForward:
    """x W' + b, in the type of `maths.matmul_dtype`, rounded once to the compute type."""

    def __init__(self, layer: nn.Linear, dtype: torch.dtype) -> None:
        self.layer, self.dtype = layer, dtype

    def __call__(self, x: Tensor) -> Tensor:
        """[..., in] → [..., out], in the type of `x`."""
        y: Tensor = _QuantisedLinear.apply(x.to(self.dtype), self.layer)  # type: ignore[no-untyped-call]
        return y.to(x.dtype)


class _QuantisedLinear(torch.autograd.Function):
    """y = x W' + b      dx = dy W

    W is dequantised again for the backward pass: saving it would keep the whole model in 16 bits.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Float[Tensor, "*shape inputs"], layer: nn.Linear
    ) -> Float[Tensor, "*shape outputs"]:
        ctx.layer = layer
        bias = layer.bias
        with without_autocast(x.device):
            weight = to_matmul_dtype(dequantise(layer.weight, x.dtype))
            y = F.linear(to_matmul_dtype(x), weight, None if bias is None else bias.to(weight.dtype))
        return y.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, None]:
        weight = to_matmul_dtype(dequantise(ctx.layer.weight, grad_y.dtype))
        return (to_matmul_dtype(grad_y) @ weight).to(grad_y.dtype), None
