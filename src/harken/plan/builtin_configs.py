"""Provide settings of the models in the shipped configurations, for planning without access to the hub.

Copied from the publishers' config.json; a test compares the parameter counts with the published ones.
"""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PretrainedConfig


def known_config(name: str) -> PretrainedConfig | None:
    """Return the settings of `org/name`, instruction-tuned or not; None for a model that is not listed."""
    settings = _KNOWN.get(name.removesuffix("-Instruct"))
    return AutoConfig.for_model(**settings) if settings else None


def _qwen(width: int, inner: int, layers: int, heads: int, groups: int, **overrides: Any) -> dict[str, Any]:
    return {
        "model_type": "qwen2",
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "vocab_size": 151_936,
        "tie_word_embeddings": True,
        "max_position_embeddings": 32_768,
    } | overrides


_KNOWN: dict[str, dict[str, Any]] = {
    "Qwen/Qwen2.5-0.5B": _qwen(896, 4_864, 24, 14, 2),
    "Qwen/Qwen2.5-1.5B": _qwen(1_536, 8_960, 28, 12, 2),
    "Qwen/Qwen2.5-7B": _qwen(3_584, 18_944, 28, 28, 4, vocab_size=152_064, tie_word_embeddings=False),
    "HuggingFaceTB/SmolLM2-135M": {
        "model_type": "llama",
        "hidden_size": 576,
        "intermediate_size": 1_536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49_152,
        "tie_word_embeddings": True,
        "max_position_embeddings": 8_192,
    },
}
