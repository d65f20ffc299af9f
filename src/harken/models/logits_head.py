"""Detect how a model computes logits from its trunk's hidden state, by probing it.

Families scale and cap logits under many names (`logit_scale` multiplies; `logits_scaling` divides in one family and
multiplies in another). The configuration therefore only provides candidate numbers. The model's head is run on hidden
states of several sizes to find out which of them apply, and how.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from harken.errors import UserError
from harken.maths.logits import LogitsHead
from harken.models.load_errors import load_errors

PROBE_LOGITS = (0.0, 0.01, 1.0, 30.0, 1000.0)
"""Largest unscaled logits of the probes: 0 shows only a bias, and 1000 saturates a cap."""
FIX = "choose a model of a family in docs/models.md"


def detect_head(model: PreTrainedModel, trunk: nn.Module, where: str) -> LogitsHead:
    """Detect the head of a model. Raises UserError, naming the difference, if it is not a `LogitsHead`."""
    output = model.get_output_embeddings()
    weight: Any = getattr(output, "weight", None)
    if weight is None or weight.dim() != 2:
        raise UserError("this model has no output embedding, so it has no logits", where=where, fix=FIX)
    bias = getattr(output, "bias", None)
    hidden = _probe_states(weight)
    with torch.no_grad():
        with load_errors("this model cannot be run over a few tokens", where, FIX):
            logits = _logits_from(model, trunk, hidden)
        if logits is None:
            raise UserError(
                "this model does not compute logits from its trunk's hidden state", where=where, fix=FIX
            )
        if logits.shape[-1] != len(weight):
            raise UserError(
                f"this model returns {logits.shape[-1]} logits and has {len(weight)} output embeddings",
                where=where,
                fix=FIX,
            )
        if not torch.isfinite(logits).all():
            raise UserError(
                "this model's logits are not finite numbers",
                where=where,
                fix="copy or download the folder again",
            )
        heads = [LogitsHead(weight, bias, *numbers) for numbers in _candidates(model.config)]
        errors = [_relative_error(head(hidden), logits) for head in heads]
    best = min(range(len(heads)), key=errors.__getitem__)
    if errors[best] > tolerance(weight.dtype):
        raise UserError(
            "this model does not compute logits as its output embedding with a bias, a scale and a soft cap",
            where=where,
            fix=FIX,
        )
    return heads[best]


def tolerance(dtype: torch.dtype) -> float:
    """Return the largest difference between two correct computations of logits, relative to the largest logit.

    A model rounds its matmul, scale, division, tanh and cap to its dtype, by half a unit each, and may round the
    hidden state. In float32 the order of sums may also differ.
    """
    return 1e-4 if dtype.itemsize >= 4 else 4 * torch.finfo(dtype).eps


def softcaps(config: PretrainedConfig) -> list[float]:
    """Return the soft caps on logits in a configuration."""
    return [value for name, value in _logit_settings(config) if "cap" in name]


def _candidates(config: PretrainedConfig) -> Iterator[tuple[float, float | None]]:
    """Yield candidate scales and caps of the model."""
    scales = [1.0]
    for name, value in _logit_settings(config):
        if "cap" not in name:
            scales += [value, 1 / value]
    for cap in (None, *softcaps(config)):
        for scale in dict.fromkeys(scales):
            yield scale, cap


def _logit_settings(config: PretrainedConfig) -> list[tuple[str, float]]:
    """Return the positive numbers that a configuration has for logits or for its head."""
    settings = config.get_text_config()
    # Some are properties computed from sizes and not keys of the file.
    names = [name for name in dir(settings) if "logit" in name or "lm_head" in name]
    values = {name: getattr(settings, name) for name in names if not name.startswith(("attn", "router"))}
    return [
        (name, float(value))
        for name, value in values.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
    ]


def _probe_states(weight: Float[Tensor, "vocab width"]) -> Float[Tensor, "sizes width"]:
    """Return one random direction, scaled so that the largest unscaled logits are `PROBE_LOGITS`."""
    draw = torch.Generator().manual_seed(0)
    direction = torch.randn(weight.shape[1], generator=draw).to(weight.device, weight.dtype)
    largest = (weight @ direction).float().abs().max().clamp(min=1e-6)
    sizes = torch.tensor(PROBE_LOGITS, device=weight.device)
    return (sizes[:, None] * direction.float() / largest).to(weight.dtype)


def _logits_from(model: PreTrainedModel, trunk: nn.Module, hidden: Tensor) -> Tensor | None:
    """Compute the model's logits with its trunk's output replaced by `hidden`; None if it does not use the trunk."""
    called = False

    def replaced(_: nn.Module, inputs: object, output: Any) -> Any:
        nonlocal called
        called = True
        output.last_hidden_state = hidden[None]
        return output

    # Some models call their trunk's decoder directly; the trunk returns its output unchanged.
    parts = (trunk, getattr(trunk, "decoder", None))
    hooks = [part.register_forward_hook(replaced) for part in parts if isinstance(part, nn.Module)]
    try:
        tokens = torch.arange(1, len(hidden) + 1, device=hidden.device)[None] % 2
        logits: Tensor = model(input_ids=tokens, use_cache=False).logits[0]
    finally:
        for hook in hooks:
            hook.remove()
    return logits.float() if called and len(logits) == len(hidden) else None


def _relative_error(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest difference relative to the largest logit of its row."""
    largest = theirs.abs().amax(-1).clamp(min=1e-9)
    return float(((ours.float() - theirs).abs().amax(-1) / largest).max())
