"""Recompute a layer's input in the backward pass instead of saving it.

A normalised or gated input is a few cheap operations away from tensors that are saved anyway. The module that computes
it attaches the function and its inputs; the linear layer that would save it saves those inputs instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Recompute:
    """`function(*inputs)` equals the tensor bit for bit, while the tensor is at `version`."""

    function: Callable[..., Tensor]
    inputs: tuple[Tensor, ...]
    version: int


def attach_recompute(tensor: Tensor, function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Attach to `tensor` how to recompute it; `inputs` should be tensors that are saved for backward anyway."""
    recompute = Recompute(function, tuple(part.detach() for part in inputs), tensor._version)
    tensor._recompute = recompute  # type: ignore[attr-defined]
    return tensor


def get_recompute(tensor: Tensor) -> Recompute | None:
    """Return how to recompute `tensor`; None if nothing is attached or it was modified in place since."""
    recompute: Recompute | None = getattr(tensor, "_recompute", None)
    return recompute if recompute is not None and recompute.version == tensor._version else None
