"""Inputs of a layer that are made again for the backward pass instead of being kept for it.

A normed or gated input is a few cheap operations away from what is kept anyway. Who makes it notes how; the layer that
would keep it keeps that note.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Recompute:
    """`make(*of)` is the tensor, to the bit."""

    make: Callable[..., Tensor]
    of: tuple[Tensor, ...]
    version: int


def attach_recompute(tensor: Tensor, make: Callable[..., Tensor], *of: Tensor) -> Tensor:
    """The tensor, with how it was made. `of` should be tensors that the backward pass keeps for others as well."""
    recipe = Recompute(make, tuple(part.detach() for part in of), tensor._version)
    tensor._recompute = recipe  # type: ignore[attr-defined]
    return tensor


def get_recompute(tensor: Tensor) -> Recompute | None:
    """How it was made; None when nobody said, or when it was changed since."""
    recipe: Recompute | None = getattr(tensor, "_recompute", None)
    return recipe if recipe is not None and recipe.version == tensor._version else None
