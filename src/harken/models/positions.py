"""How far a row may go before its rotation depends on the rows beside it."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig

from harken.errors import UserError


def position_limit(config: PretrainedConfig) -> int | None:
    """Return the most tokens of a row that rotary frequencies are fixed for; None when they always are.

    "longrope" takes other frequencies for a whole batch once its longest row is longer than the model was first
    trained on, and "dynamic" keeps those of the longest row so far. A row alone would get others.
    """
    settings = config.get_text_config()
    rotation: Any = getattr(settings, "rope_parameters", None) or {}
    limits = []
    for of_layers in [rotation, *(part for part in rotation.values() if isinstance(part, dict))]:
        kind = str(of_layers.get("rope_type", "default"))
        if kind == "longrope":
            limits.append(
                of_layers.get("original_max_position_embeddings") or settings.max_position_embeddings
            )
        elif "dynamic" in kind:
            limits.append(settings.max_position_embeddings)
    return min(map(int, limits), default=None)


def require_within(config: PretrainedConfig, tokens: int, what: str, fix: str) -> None:
    """Raise UserError for a row of so many tokens past the limit."""
    limit = position_limit(config)
    if limit is not None and tokens > limit:
        raise UserError(
            f"{what} has {tokens} tokens, and past {limit} the rotary embedding of this model ({config.model_type}) "
            "depends on the longest row of a batch",
            where="data.max_length",
            fix=fix.format(limit=limit),
        )
