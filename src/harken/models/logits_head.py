"""What a model does between its trunk's hidden state and its logits, found out by asking it.

Families scale and cap their logits under many names (`logit_scale` multiplies, `logits_scaling` divides in one family
and multiplies in another). So a configuration only proposes numbers; which of them act, and how, is what the model's
own head makes of hidden states of several sizes put in place of the trunk's.
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
"""Largest logits, before a scale, of what a head is asked about: at 0 a bias stands alone, at 1000 a cap has closed."""
FIX = "choose a model of a family in docs/models.md"


def detect_head(model: PreTrainedModel, trunk: nn.Module, where: str) -> LogitsHead:
    """Return the head of a model. Raises UserError, naming what is different, for one that is not a `LogitsHead`."""
    output = model.get_output_embeddings()
    weight: Any = getattr(output, "weight", None)
    if weight is None or weight.dim() != 2:
        raise UserError("this model has no output embedding, so it gives no logits", where=where, fix=FIX)
    bias = getattr(output, "bias", None)
    hidden = _probe_states(weight)
    with torch.no_grad():
        with load_errors("this model cannot be run over a few tokens", where, FIX):
            found = _logits_from(model, trunk, hidden)
        if found is None:
            raise UserError(
                "this model's logits are not made from its trunk's hidden state", where=where, fix=FIX
            )
        if found.shape[-1] != len(weight):
            raise UserError(
                f"this model gives {found.shape[-1]} logits and has {len(weight)} output embeddings",
                where=where,
                fix=FIX,
            )
        if not torch.isfinite(found).all():
            raise UserError(
                "this model's logits are not finite numbers",
                where=where,
                fix="copy or download the folder again",
            )
        heads = [LogitsHead(weight, bias, *numbers) for numbers in _candidates(model.config)]
        off = [_relative_error(head(hidden), found) for head in heads]
    best = min(range(len(heads)), key=off.__getitem__)
    if off[best] > tolerance(weight.dtype):
        raise UserError(
            "this model's logits are another function of its hidden state than its output embedding with a bias, "
            "a scale and a soft cap",
            where=where,
            fix=FIX,
        )
    return heads[best]


def tolerance(dtype: torch.dtype) -> float:
    """How far apart two right ways to the same logits may be, as a part of the largest.

    A model rounds its product, scale, division, tanh and cap to its own type, half a unit each, and may have rounded
    the hidden state; float32 sums besides in another order.
    """
    return 1e-4 if dtype.itemsize >= 4 else 4 * torch.finfo(dtype).eps


def softcaps(config: PretrainedConfig) -> list[float]:
    """Return the soft caps on logits that a configuration speaks of."""
    return [number for name, number in _logit_settings(config) if "cap" in name]


def _candidates(config: PretrainedConfig) -> Iterator[tuple[float, float | None]]:
    """Scales and caps that may be this model's."""
    scales = [1.0]
    for name, number in _logit_settings(config):
        if "cap" not in name:
            scales += [number, 1 / number]
    for cap in (None, *softcaps(config)):
        for scale in dict.fromkeys(scales):
            yield scale, cap


def _logit_settings(config: PretrainedConfig) -> list[tuple[str, float]]:
    """The positive numbers a configuration gives for logits or for its head."""
    settings = config.get_text_config()
    # Some are properties, made from widths: no key of the file holds them.
    names = [name for name in dir(settings) if "logit" in name or "lm_head" in name]
    values = {name: getattr(settings, name) for name in names if not name.startswith(("attn", "router"))}
    return [
        (name, float(value))
        for name, value in values.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
    ]


def _probe_states(weight: Float[Tensor, "vocab width"]) -> Float[Tensor, "sizes width"]:
    """One direction, at the sizes that give the largest products of `SIZES`."""
    draw = torch.Generator().manual_seed(0)
    direction = torch.randn(weight.shape[1], generator=draw).to(weight.device, weight.dtype)
    largest = (weight @ direction).float().abs().max().clamp(min=1e-6)
    sizes = torch.tensor(PROBE_LOGITS, device=weight.device)
    return (sizes[:, None] * direction.float() / largest).to(weight.dtype)


def _logits_from(model: PreTrainedModel, trunk: nn.Module, hidden: Tensor) -> Tensor | None:
    """What the model makes of these hidden states in place of its trunk's; None when it does not ask for those."""
    asked = False

    def replaced(_: nn.Module, given: object, output: Any) -> Any:
        nonlocal asked
        asked = True
        output.last_hidden_state = hidden[None]
        return output

    # Some models ask their trunk's decoder, whose output the trunk gives as it is.
    parts = (trunk, getattr(trunk, "decoder", None))
    hooks = [part.register_forward_hook(replaced) for part in parts if isinstance(part, nn.Module)]
    try:
        tokens = torch.arange(1, len(hidden) + 1, device=hidden.device)[None] % 2
        logits: Tensor = model(input_ids=tokens, use_cache=False).logits[0]
    finally:
        for hook in hooks:
            hook.remove()
    return logits.float() if asked and len(logits) == len(hidden) else None


def _relative_error(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, as a part of the largest logit of its row."""
    largest = theirs.abs().amax(-1).clamp(min=1e-9)
    return float(((ours.float() - theirs).abs().amax(-1) / largest).max())
