"""Fuse RMSNorm and SwiGLU into fewer passes over memory, with less saved for the backward pass.

Model families define these two formulas under many class names. A module's forward is replaced only if the new one
gives the same result with the module's own weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from harken.kernels.recompute import attach_recompute

GATED = ("gate_proj", "up_proj", "down_proj", "act_fn")


def install(model: nn.Module) -> None:
    """Replace the forward of RMS norms and of SiLU-gated MLPs where the result is the same."""
    module: Any
    for module in model.modules():
        weighted = isinstance(getattr(module, "weight", None), Tensor)  # some families' norms have no weight
        if weighted and type(module).__name__.endswith("RMSNorm") and _epsilon(module) is not None:
            _replace_if_equal(module, NormForward(module), module.weight)
        elif all(hasattr(module, name) for name in GATED) and isinstance(module.gate_proj, nn.Module):
            # Fused experts have parameters of these names instead of modules.
            _replace_if_equal(module, GatedForward(module), module.gate_proj.weight)  # type: ignore[arg-type]


class NormForward:
    """x / √(mean x² + ε) × weight: normalised in float32, rounded, then scaled, as transformers does."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def __call__(self, x: Tensor) -> Tensor:
        """[..., width] → [..., width], in the type of `x`."""
        weight, epsilon = self.module.weight, _epsilon(self.module) or 0.0
        use_fused_kernel = x.is_cuda and x.dtype == weight.dtype and _has_fused_rms_norm()
        function = partial(_fused_rms_norm if use_fused_kernel else _rms_norm, epsilon=epsilon)
        if not torch.is_grad_enabled():
            return function(x, weight)
        normed: Tensor
        normed = function(x, weight) if use_fused_kernel else _Norm.apply(x, weight, epsilon)  # type: ignore[no-untyped-call]
        return attach_recompute(normed, function, x, weight)


class GatedForward:
    """down(silu(gate(x)) × up(x))."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def __call__(self, x: Tensor) -> Tensor:
        """[..., width] → [..., width]."""
        gate, up = self.module.gate_proj(x), self.module.up_proj(x)
        if not torch.is_grad_enabled():
            output: Tensor = self.module.down_proj(_product(gate, up))
            return output
        gated = attach_recompute(_Gated.apply(gate, up), _product, gate, up)  # type: ignore[no-untyped-call]
        return self.module.down_proj(gated)  # type: ignore[no-any-return]


class _Norm(torch.autograd.Function):
    """With n = x / √(mean x² + ε) and h = dy × weight:

    dx = (h - n mean(h n)) / √(mean x² + ε)      d weight = Σ dy n
    """

    @staticmethod
    def forward(
        ctx: Any, x: Float[Tensor, "*shape width"], weight: Float[Tensor, " width"], epsilon: float
    ) -> Float[Tensor, "*shape width"]:
        quotient, inverse = _normalise(x.float(), epsilon)
        ctx.save_for_backward(x, inverse, weight)
        return quotient.to(x.dtype) * weight

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, inverse, weight = ctx.saved_tensors
        n = x.float() * inverse
        grad_weight = None
        if ctx.needs_input_grad[1]:
            grad_weight = (grad_y.float() * n).flatten(0, -2).sum(0).to(weight.dtype)
        h = (grad_y * weight).float()
        projection = torch.linalg.vecdot(h, n).div_(n.shape[-1]).unsqueeze(-1)
        grad_x = h.addcmul(n, projection, value=-1).mul_(inverse)
        return grad_x.to(x.dtype), grad_weight, None


def _rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    normed: Tensor = _normalise(x.float(), epsilon)[0].to(x.dtype) * weight
    return normed


def _fused_rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Compute the norm in one CUDA kernel instead of eight; rounded once, after the weight.

    Not `F.rms_norm`, for which autocast may cast `x` to float32 first.
    """
    normed: Tensor = torch.ops.aten._fused_rms_norm(x, weight.shape, weight, epsilon)[0]
    return normed


@cache
def _has_fused_rms_norm() -> bool:
    """Return whether the op has a backward: before torch 2.9 it had other arguments and none."""
    return all(hasattr(torch.ops.aten, f"_fused_rms_norm{suffix}") for suffix in ("", "_backward"))


def _normalise(wide: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Return x / √(mean x² + ε), and the scale 1 / √(mean x² + ε)."""
    inverse = torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)
    return wide * inverse, inverse


def _product(gate: Tensor, up: Tensor) -> Tensor:
    return F.silu(gate).mul_(up)


class _Gated(torch.autograd.Function):
    """silu(gate) × up; silu(gate) is recomputed in the backward pass instead of being saved."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return _product(gate, up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        grad_gate: Tensor = torch.ops.aten.silu_backward(grad_y * up, gate)
        return grad_gate, F.silu(gate).mul_(grad_y)


def _epsilon(module: Any) -> float | None:
    return getattr(module, "variance_epsilon", getattr(module, "eps", None))


def _replace_if_equal(module: Any, forward: Callable[[Tensor], Tensor], weight: Tensor) -> None:
    """Replace the forward if both agree within 4 units in the last place on inputs of three magnitudes."""
    if weight.is_meta or not weight.is_floating_point():
        return
    width = weight.shape[-1]
    probe = torch.linspace(-3, 2, 3 * width, device=weight.device, dtype=weight.dtype).view(3, width)
    probe = probe.roll(1, -1) * torch.tensor(
        [[1.0], [1e-3], [30.0]], device=weight.device, dtype=weight.dtype
    )
    with torch.no_grad():
        expected, fused = module(probe), forward(probe)
    unit = torch.finfo(weight.dtype).eps
    largest = float(expected.abs().max())
    if not math.isfinite(largest):  # a damaged model: `check_logits` reports it
        return
    if torch.allclose(expected.float(), fused.float(), rtol=4 * unit, atol=4 * unit * largest):
        module.forward = forward
