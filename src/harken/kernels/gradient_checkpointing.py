"""Gradient checkpointing: a decoder layer saves only its input and runs again in the backward pass.

transformers' own switch is not used: it acts only on layers in training mode, and the base stays in evaluation mode
so that its own dropout stays off. Nor does it restore the two settings that can differ between the forward and the
backward pass here: the attention implementation and the active adapter.
Source: Chen et al. 2016 (arXiv:1604.06174).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from harken.errors import UserError
from harken.kernels.trunk import tower_of


@contextmanager
def checkpointed_layers(trunk: nn.Module, role: Callable[[], str | None]) -> Iterator[None]:
    """Checkpoint each layer in a forward of `trunk` with gradients; without gradients nothing changes.

    `role` returns the name of the active adapter. The layers are restored on exit, also after an error. The backward
    pass may run later, but must run under the same role; under another it raises RuntimeError. Random draws (adapter
    dropout) and autocast are those of the forward. Raises UserError for a model whose layers cannot be found.
    """
    if not torch.is_grad_enabled():
        yield
        return
    layers = [module for module in trunk.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise UserError(
            "this model does not mark its decoder layers, so they cannot be checkpointed",
            where="training.gradient_checkpointing",
            fix="leave it out, and lower training.micro_batch_tokens instead",
        )
    try:
        for layer in layers:
            layer.forward = _checkpointed(layer.forward, tower_of(trunk).config, role)
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)


def _checkpointed(
    forward: Callable[..., Any], config: Any, role: Callable[[], str | None]
) -> Callable[..., Any]:
    """Return `forward` with checkpointing: the second run uses the attention of the first, and requires its adapter."""

    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        adapter, attention = role(), config._attn_implementation

        def run(*args: Any, **kwargs: Any) -> Any:
            if role() != adapter:
                raise RuntimeError(
                    f"backward of role {adapter!r} runs inside role {role()!r}: its gradient would be wrong"
                )
            previous = config._attn_implementation
            config._attn_implementation = attention
            try:
                return forward(*args, **kwargs)
            finally:
                config._attn_implementation = previous

        return checkpoint(run, *args, use_reentrant=False, **kwargs)

    return checkpointed
