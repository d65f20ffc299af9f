"""Linear layers for decoding: few rows at a time, so weight layout and the number of calls dominate.

Inside `packed_linears`, weights are copied once, on a CPU into the blocked layout that oneDNN reads, and layers with
the same input (q, k and v; gate and up) become one matmul, adapters included. Results equal those of
`kernels.lora_linear` bit for bit where the library sums in the same order, as it does for bfloat16 on a CPU. Where
16-bit matmuls are computed in float32 (`maths.matmul_dtype`), so are these, and the copies are float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from harken.kernels.lora_linear import LoraForward
from harken.maths.matmul_dtype import matmul_dtype, to_matmul_dtype

FUSABLE = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
CPU = torch.device("cpu")
ALIGNMENT = 8
"""Row length of a fused output is a multiple of this: heads are views into it, and a GPU's attention kernel silently
misread rows of any other length (test_rollouts_on_gpu.py)."""
LAYOUT_ROWS = 32
"""Number of rows that the blocked layout is optimised for; any number works."""
MAX_PACKED_WEIGHTS = 1 << 29
"""Models with more weights are not copied: memory would cost more than time."""


def can_pack(model: nn.Module) -> bool:
    """Return whether packing speeds up this model on this machine."""
    weights = [weight for name, weight in model.named_parameters() if "lora_" not in name]
    fits = sum(weight.numel() for weight in weights) <= MAX_PACKED_WEIGHTS
    kinds = {(weight.device.type, weight.dtype) for weight in weights}
    if kinds == {("cuda", torch.bfloat16)}:
        return fits
    return (
        fits
        and kinds == {("cpu", torch.bfloat16)}
        and (_multiplies_in_fp32() or _has_exact_packed_matmul(torch.bfloat16))
    )


@contextmanager
def packed_linears(trunk: nn.Module) -> Iterator[None]:
    """Pack every linear layer of `trunk` inside, with the currently active adapter. Use it without gradients."""
    replaced: list[tuple[Any, Any]] = []
    adapted = [layer for layer in trunk.modules() if isinstance(layer.__dict__.get("forward"), LoraForward)]
    adapter_parts = {part for layer in adapted for part in layer.modules()}
    try:
        for parent in (module for module in trunk.modules() if module not in adapter_parts):
            for layers in _fusable_groups(parent):
                group = _FusedLinear(layers)
                for index, layer in enumerate(layers):
                    replaced.append((layer, layer.__dict__.get("forward")))
                    layer.forward = _FusedSlice(group, index)
        yield
    finally:
        for layer, forward in replaced:
            if forward is None:
                del layer.forward
            else:
                layer.forward = forward


def fuse_projections(layers: Sequence[Any]) -> Callable[[Tensor], Tensor]:
    """Return a function that concatenates the outputs of layers with the same input.

    It is one matmul inside `packed_linears`.
    """
    forwards = [layer.__dict__.get("forward") for layer in layers]
    first = forwards[0]
    if isinstance(first, _FusedSlice) and len(layers) == len(first.group.sizes):
        return first.group.multiply
    return lambda x: torch.cat([layer(x) for layer in layers], -1)


class PackedWeight:
    """x W' + b, with W in the layout and dtype of the matmul."""

    def __init__(self, weight: Float[Tensor, "outputs inputs"], bias: Tensor | None = None) -> None:
        converted = to_matmul_dtype(weight.detach()).contiguous()
        self.reordered = converted.device == CPU and _has_exact_packed_matmul(converted.dtype)
        self.weight = (
            torch.ops.mkldnn._reorder_linear_weight(converted, LAYOUT_ROWS) if self.reordered else converted
        )
        self.bias = None if bias is None else to_matmul_dtype(bias.detach())

    def __call__(self, x: Float[Tensor, "rows inputs"]) -> Float[Tensor, "rows outputs"]:
        """Return a new tensor in the matmul dtype."""
        x = to_matmul_dtype(x)
        if not self.reordered:
            return F.linear(x, self.weight, self.bias)
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return y


class _FusedLinear:
    """Layers with the same input: the first that is called computes the outputs of all."""

    def __init__(self, layers: Sequence[Any]) -> None:
        bases = [_base(layer) for layer in layers]
        self.sizes = [base.out_features for base in bases]
        biases: list[Tensor] = [
            base.bias if base.bias is not None else base.weight.new_zeros(base.out_features) for base in bases
        ]
        bias = torch.cat(biases) if any(base.bias is not None for base in bases) else None
        self.adapter = _fused_adapter(layers, sum(self.sizes))
        weights = [base.weight.detach() for base in bases]
        if self.adapter is not None:
            # x A' is part of the same matmul: computed separately it would cost half as much as x W'.
            down = self.adapter[0]
            weights.append(down)
            bias = None if bias is None else torch.cat([bias, bias.new_zeros(len(down))])
        self.base = PackedWeight(torch.cat(weights), bias)
        self.last_input: Tensor | None = None
        self.outputs: Sequence[Tensor] = []

    def multiply(self, x: Tensor) -> Tensor:
        """Multiply [..., inputs] by the weights: return [..., concatenated outputs]."""
        flat = x.reshape(-1, x.shape[-1]).to(torch.bfloat16)
        outputs = sum(self.sizes)
        y = self.base(flat)
        if self.adapter is not None:
            _, up, scale = self.adapter
            y[:, :outputs].addmm_(y[:, outputs:], up, alpha=scale)
        return y[:, :outputs].to(torch.bfloat16).view(*x.shape[:-1], -1)


class _FusedSlice:
    """The forward of one layer of a group."""

    def __init__(self, group: _FusedLinear, index: int) -> None:
        self.group, self.index = group, index

    def __call__(self, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        group = self.group
        if x is not group.last_input:
            group.last_input, group.outputs = x, torch.split(group.multiply(x), group.sizes, -1)
        output = group.outputs[self.index]
        if self.index == len(group.sizes) - 1:
            group.last_input, group.outputs = None, []
        return output


def _fusable_groups(parent: nn.Module) -> Iterator[list[nn.Module]]:
    """Yield the linear children of a module, grouped where they have the same input."""
    linear = {name: child for name, child in parent.named_children() if _is_linear(child)}
    for names in FUSABLE:
        group = [linear[name] for name in names if name in linear]
        scales = {adapter and adapter[2] for adapter in map(_active_weights, group)}
        if len(group) == len(names) and len(scales) == 1:
            for name in names:
                del linear[name]
            yield group
    yield from ([layer] for layer in linear.values())


def _is_linear(layer: nn.Module) -> bool:
    return type(layer) is nn.Linear or isinstance(layer.__dict__.get("forward"), LoraForward)


def _base(layer: Any) -> nn.Linear:
    base: nn.Linear = layer if type(layer) is nn.Linear else layer.base_layer
    return base


def _active_weights(layer: nn.Module) -> tuple[Tensor, Tensor, float] | None:
    """Return A, B and the scale of a layer's active adapter; None without one."""
    forward = layer.__dict__.get("forward")
    return forward.active_weights() if isinstance(forward, LoraForward) else None


def _fused_adapter(layers: Sequence[nn.Module], outputs: int) -> tuple[Tensor, Tensor, float] | None:
    """Return the stacked A [ranks, inputs], block-diagonal B' [ranks, outputs], and the scale.

    Ranks are padded with zeros so that outputs plus ranks are a multiple of `ALIGNMENT`.
    """
    adapters = [adapter for layer in layers if (adapter := _active_weights(layer)) is not None]
    if not adapters:
        return None
    down, up = [a for a, _, _ in adapters], [b.T for _, b, _ in adapters]
    blocks: Tensor = torch.block_diag(*up)  # type: ignore[no-untyped-call]
    padding = (0, 0, 0, -(outputs + len(blocks)) % ALIGNMENT)
    return (
        F.pad(torch.cat(down).detach(), padding),
        to_matmul_dtype(F.pad(blocks.detach(), padding)),
        adapters[0][2],
    )


def _multiplies_in_fp32() -> bool:
    """Return whether 16-bit matmuls run in float32 here."""
    return matmul_dtype(torch.bfloat16, CPU) != torch.bfloat16


@cache
def _has_exact_packed_matmul(dtype: torch.dtype) -> bool:
    """Return whether oneDNN's packed matmul exists and equals the plain one: bit for bit in 16 bits."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    if not all(hasattr(torch.ops.mkldnn, name) for name in ("_reorder_linear_weight", "_linear_pointwise")):
        return False
    x, weight = (torch.linspace(-2, 3, n * 48).view(n, 48).to(dtype) for n in (3, 40))
    ordered = torch.ops.mkldnn._reorder_linear_weight(weight, LAYOUT_ROWS)
    actual = torch.ops.mkldnn._linear_pointwise(x, ordered, None, "none", [], "")
    expected = F.linear(x, weight)
    if dtype == torch.bfloat16:
        return torch.equal(actual, expected)
    return torch.allclose(actual, expected, rtol=1e-5, atol=1e-4)
