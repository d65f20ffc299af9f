"""Gradient checkpointing: a decoder layer keeps its input alone, and runs again when its gradient is wanted.

Not transformers' own switch: that one acts only on layers in training mode, and the base stays in evaluation mode
so that no dropout of its own can wake up. Nor does it know that two things differ between the forward and the
backward of a role here: which attention a short batch takes, and which adapter is on.
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
    """Inside, a forward of `trunk` with gradients checkpoints each layer; one without gradients is left alone.

    `role` names the adapter in force. The layers are put back on leaving, after errors too: generation never meets
    them. The backward pass may come later, but under the same role: under another it raises RuntimeError.
    Random draws (adapter dropout) and autocast are those of the forward. Raises UserError for a model whose layers
    cannot be told apart.
    """
    if not torch.is_grad_enabled():
        yield
        return
    layers = [module for module in trunk.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise UserError(
            "this model does not say what its layers are, so none can be run again",
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
    """`forward`, checkpointed: its second run sees the attention of the first, and insists on its adapter."""

    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        adapter, attention = role(), config._attn_implementation

        def run(*args: Any, **kwargs: Any) -> Any:
            if role() != adapter:
                raise RuntimeError(
                    f"backward of role {adapter!r} came inside role {role()!r}: its gradient would be wrong"
                )
            usual = config._attn_implementation
            config._attn_implementation = attention
            try:
                return forward(*args, **kwargs)
            finally:
                config._attn_implementation = usual

        return checkpoint(run, *args, use_reentrant=False, **kwargs)

    return checkpointed
