"""Limit row lengths: what position embeddings allow, and where a longer row would change others of its batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from harken.errors import UserError

ROTATION, CHOICE = "rotary embedding", "choice of keys"


def position_limit(config: PretrainedConfig) -> int | None:
    """Return the longest row whose result does not depend on the other rows of its batch; None without a limit."""
    return min((limit for limit, _ in _limits(config)), default=None)


def _limits(config: PretrainedConfig) -> list[tuple[int, str]]:
    """Yield limits on a row's tokens, with the part that depends on the longest row past each limit.

    "longrope" uses other frequencies for a whole batch once its longest row is longer than the model was first
    trained on, and "dynamic" keeps those of the longest row so far. Sparse attention with an index (`index_topk`)
    chooses among keys with equal scores by the length of the batch; up to `index_topk` keys it takes all of them.
    """
    settings = config.get_text_config()
    rotation: Any = getattr(settings, "rope_parameters", None) or {}
    limits: list[tuple[int, str]] = []
    if chosen := getattr(settings, "index_topk", None):
        limits.append((int(chosen), CHOICE))
    for of_layers in [rotation, *(part for part in rotation.values() if isinstance(part, dict))]:
        kind = str(of_layers.get("rope_type", "default"))
        if kind == "longrope":
            trained = of_layers.get("original_max_position_embeddings") or settings.max_position_embeddings
            limits.append((int(trained), ROTATION))
        elif "dynamic" in kind:
            limits.append((int(settings.max_position_embeddings), ROTATION))
    return limits


def check_position_limit(config: PretrainedConfig, tokens: int, label: str, fix: str) -> None:
    """Raise UserError for a row of `tokens` tokens if it exceeds the limit."""
    limit, part = min(_limits(config), default=(tokens, ""))
    if tokens > limit:
        raise UserError(
            f"{label} has {tokens} tokens, and past {limit} the {part} of this model ({config.model_type}) "
            "depends on the longest row of a batch",
            where="data.max_length",
            fix=fix.format(limit=limit),
        )


def position_limits(model: PreTrainedModel) -> Iterator[int]:
    """Yield the lengths that position embeddings allow. RoBERTa models start after the padding position."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if isinstance(limit, int) and limit > 0:  # some write −1 for no limit
        yield limit
    for key, module in model.named_modules():
        if isinstance(module, nn.Embedding) and key.rsplit(".", 1)[-1] in ("position_embeddings", "wpe"):
            yield module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
