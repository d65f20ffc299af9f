"""Compute a linear layer with a LoRA adapter in few passes over memory, for training and generation.

peft keeps the adapters' parameters, names and files, and its own `forward` serves every layer that is not plain.
This one gives the same numbers (in float32 up to the order of a sum) without materialising the adapter's output: on a
CPU a pass over [tokens, features] costs as much as the low-rank matmuls themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from peft.tuners.lora import Linear
from peft.tuners.lora.layer import ParamWrapper
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from harken.kernels.recompute import Recompute, get_recompute
from harken.maths.matmul_dtype import to_matmul_dtype, without_autocast


def install(layers: Iterable[nn.Module]) -> None:
    """Replace the forward of every plain LoRA layer on a frozen `nn.Linear`; others keep peft's."""
    layer: Any
    for layer in layers:
        # A layer adapted as a parameter (`models.lora_targets`) computes the same formula.
        is_linear = type(layer) in (Linear, ParamWrapper) and type(layer.base_layer) is nn.Linear
        is_plain_lora = is_linear and not layer.lora_variant
        if is_plain_lora and not isinstance(layer.__dict__.get("forward"), LoraForward):
            layer.forward = LoraForward(layer)


@contextmanager
def adapters_cast_once(layers: Iterable[nn.Module]) -> Iterator[None]:
    """Cast adapters to the base's dtype once inside, instead of at every call: for generation, without gradients.

    They are not merged into the base: rounding W + ΔW to 16 bits would lose a ΔW below half a unit in the last place
    of W, which is the size of PPO's updates, and the sampler would differ from the policy that is trained.
    """
    forwards = [f for layer in layers if isinstance(f := layer.__dict__.get("forward"), LoraForward)]
    try:
        for forward in forwards:
            forward.cast_adapter()
        yield
    finally:
        for forward in forwards:
            forward.cast_weights = None


class LoraForward:
    """x W' + b + scale × (x A') B' under the layer's active adapter; x W' + b when adapters are off."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer
        self.cast_weights: tuple[Tensor, Tensor] | None = None

    def __call__(self, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        """[..., in] → [..., out]. With dropout or a trainable base, peft's own forward runs."""
        layer, base = self.layer, self.layer.base_layer
        name = self._active_adapter()
        output: Tensor
        if name is None:
            output = base(x)
            return output
        dropping = layer.lora_dropout[name].training and isinstance(layer.lora_dropout[name], nn.Dropout)
        if dropping or base.weight.requires_grad:
            output = type(layer).forward(layer, x, *args, **kwargs)
        else:
            down, up = self.cast_weights or self._cast(name)
            x = x.to(base.weight.dtype)
            flat = _LoraLinear.apply(
                x, base.weight, base.bias, down, up, layer.scaling[name], get_recompute(x)
            )  # type: ignore[no-untyped-call]
            # The view is outside the autograd function: its outputs may not be views that layers modify in place.
            output = flat.view(*x.shape[:-1], -1)
        return output

    def cast_adapter(self) -> None:
        """Cast the active adapter once, for all calls until `cast_weights` is None again."""
        name = self._active_adapter()
        self.cast_weights = None if name is None else tuple(t.detach() for t in self._cast(name))  # type: ignore[assignment]

    def active_weights(self) -> tuple[Tensor, Tensor, float] | None:
        """Return A and B of the active adapter in the base's dtype, and the scale; None without an adapter."""
        name = self._active_adapter()
        return None if name is None else (*self._cast(name), self.layer.scaling[name])

    def _active_adapter(self) -> str | None:
        active = [name for name in self.layer.active_adapters if name in self.layer.lora_A]
        assert len(active) <= 1
        return active[0] if active and not self.layer.disable_adapters else None

    def _cast(self, name: str) -> tuple[Tensor, Tensor]:
        dtype = self.layer.base_layer.weight.dtype
        return self.layer.lora_A[name].weight.to(dtype), self.layer.lora_B[name].weight.to(dtype)


class _LoraLinear(torch.autograd.Function):
    """With h = x A' and s the scale:  y = x W' + b + s h B'

    dx = dy W + s (dy B) A      dA = s (dy B)' x      dB = s dy' h
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Float[Tensor, "*shape inputs"],
        weight: Float[Tensor, "outputs inputs"],
        bias: Float[Tensor, " outputs"] | None,
        down: Float[Tensor, "rank inputs"],
        up: Float[Tensor, "outputs rank"],
        scale: float,
        recompute: Recompute | None = None,
    ) -> Float[Tensor, "tokens outputs"]:
        flat = to_matmul_dtype(x.reshape(-1, x.shape[-1]))
        with without_autocast(x.device):
            low = flat @ to_matmul_dtype(down).T
            y = F.linear(flat, to_matmul_dtype(weight), None if bias is None else to_matmul_dtype(bias))
            y.addmm_(low, to_matmul_dtype(up).T, alpha=scale)
        function, inputs = (recompute.function, recompute.inputs) if recompute else (None, (x,))
        ctx.save_for_backward(low.to(x.dtype), weight, down, up, *inputs)
        ctx.scale, ctx.function, ctx.shape = scale, function, x.shape
        return y.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        low, weight, down, up, *inputs = ctx.saved_tensors
        wants_x, _, _, wants_down, wants_up, *_ = ctx.needs_input_grad
        dtype = weight.dtype
        grad_y = to_matmul_dtype(grad_y)
        grad_low = (grad_y @ to_matmul_dtype(up)).mul_(ctx.scale)
        grad_x = grad_down = grad_up = None
        if wants_x:
            grad_x = (
                (grad_y @ to_matmul_dtype(weight))
                .addmm_(grad_low, to_matmul_dtype(down))
                .to(dtype)
                .view(ctx.shape)
            )
        if wants_down:
            x = ctx.function(*inputs) if ctx.function else inputs[0]
            grad_down = (grad_low.T @ to_matmul_dtype(x.reshape(-1, x.shape[-1]))).to(dtype)
        if wants_up:
            grad_up = (grad_y.T @ to_matmul_dtype(low)).mul_(ctx.scale).to(dtype)
        return grad_x, None, None, grad_down, grad_up, None, None


def has_active_dropout(layers: Iterable[Any]) -> bool:
    """Return whether any adapter currently applies dropout."""
    return any(
        isinstance(drop, nn.Dropout) and drop.training and drop.p > 0
        for layer in layers
        for drop in layer.lora_dropout.values()
    )
