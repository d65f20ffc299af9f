"""Find the parts of a causal language model: its trunk, and the text tower of a multimodal one."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PretrainedConfig

TOWERS = ("language_model", "text_model")


def trunk_of(model: Any) -> nn.Module:
    """Return a causal language model without its output embedding."""
    trunk: nn.Module = getattr(model, model.base_model_prefix, None) or model.model
    return trunk


def tower_name(trunk: nn.Module) -> str | None:
    """Return the name of the text tower in a multimodal trunk; None for a text-only model."""
    return next((name for name in TOWERS if isinstance(getattr(trunk, name, None), nn.Module)), None)


def tower_of(trunk: nn.Module) -> nn.Module:
    """Return the text tower of a multimodal trunk, or the trunk itself."""
    name = tower_name(trunk)
    return trunk if name is None else trunk.get_submodule(name)


def text_config_of(model: Any) -> PretrainedConfig:
    """Return the configuration object that the text layers read at run time."""
    name = tower_name(trunk_of(model))
    config: PretrainedConfig = model.config if name is None else getattr(trunk_of(model), name).config
    return config


def exclude_pattern(trunk: nn.Module) -> str | None:
    """Return a regex for peft's `exclude_modules` that matches every module outside the text tower."""
    name = tower_name(trunk)
    return None if name is None else rf"(?!(.*\.)?{name}\.).*"
