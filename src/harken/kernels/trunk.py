"""The parts of a causal language model: its trunk, and in a multimodal one the tower that reads text."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PretrainedConfig

TOWERS = ("language_model", "text_model")


def trunk_of(model: Any) -> nn.Module:
    """Return a causal language model without its unembedding."""
    trunk: nn.Module = getattr(model, model.base_model_prefix, None) or model.model
    return trunk


def tower_name(trunk: nn.Module) -> str | None:
    """Return the name of the part of a multimodal trunk that reads text; None where the trunk is that part."""
    return next((name for name in TOWERS if isinstance(getattr(trunk, name, None), nn.Module)), None)


def tower_of(trunk: nn.Module) -> nn.Module:
    """Return the part of a trunk that reads text: all of it but in a multimodal model."""
    name = tower_name(trunk)
    return trunk if name is None else trunk.get_submodule(name)


def text_config_of(model: Any) -> PretrainedConfig:
    """Return the configuration that the layers which read text were made from, and look into."""
    name = tower_name(trunk_of(model))
    config: PretrainedConfig = model.config if name is None else getattr(trunk_of(model), name).config
    return config


def exclude_pattern(trunk: nn.Module) -> str | None:
    """Return a pattern that matches every module but those of the text tower, as peft's `exclude_modules` takes it."""
    name = tower_name(trunk)
    return None if name is None else rf"(?!(.*\.)?{name}\.).*"
