"""Resolve which modules and parameters of a model an adapter targets.

A mixture of experts stores its experts in one three-dimensional parameter, which peft adapts by name
(`target_parameters`). For some families, peft interprets `gate_proj`, `up_proj` and `down_proj` in `target_modules` as
those parameters, at twice the rank, and then skips layers with these names (shared experts, dense blocks). For these
families, such layers are targeted as parameters, by their weight. The adapter then covers what the configuration says,
and peft adapts the same layers wherever the adapter is loaded.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftConfig
from peft.tuners.lora.layer import ParamWrapper
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import transformers_weight_conversion as conversion
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn
from transformers import PreTrainedModel

from harken.config import LoraSettings
from harken.errors import UserError
from harken.kernels.trunk import exclude_pattern, tower_of

PROJECTIONS = {
    *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    *("qkv_proj", "gate_up_proj", "out_proj", "fc1", "fc2"),
    *("c_attn", "c_proj", "c_fc"),
    *("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj"),
    *("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"),
}
"""Names of attention and MLP projections in common families, including multi-head latent attention."""


@dataclass(frozen=True)
class Targets:
    """The targets for peft; each matches the end of a name."""

    modules: list[str]
    parameters: list[str]
    exclude: str | None = None
    """Pattern of modules to exclude: in a multimodal model, everything but the language model."""

    def cover_module(self, key: str) -> bool:
        """Return whether peft adapts the module of this name."""
        is_target = any(_matches(key, name) for name in self.modules) or self.cover_parameter(f"{key}.weight")
        return is_target and not (self.exclude and re.fullmatch(self.exclude, key))

    def cover_parameter(self, key: str) -> bool:
        """Return whether peft adapts the parameter of this name."""
        return any(_matches(key, name) for name in self.parameters)


def resolve_targets(model: nn.Module, trunk: nn.Module, settings: LoraSettings) -> Targets:
    """Resolve the targets of an adapter with these settings.

    Raises UserError for a name in `target_modules` that matches nothing (peft would ignore it if another name matches)
    or that peft interprets differently, and for `experts` if the model has none that peft can adapt.
    """
    tower = tower_of(trunk)
    parameters = expert_parameters(tower) if settings.experts else []
    if settings.experts and not parameters:
        raise UserError(
            "this model has no experts in fused parameters", where="lora.experts", fix="leave it out"
        )
    modules = target_modules(model, tower, settings.target_modules)
    aliases = [name for name in modules if name.rsplit(".", 1)[-1] in _peft_expert_aliases(model)]
    layers = [part for key, part in tower.named_modules() if any(_matches(key, name) for name in aliases)]
    by_weight = settings.dropout == 0 and all(_base_type(layer) is nn.Linear for layer in layers)
    if aliases and not by_weight and settings.target_modules is not None:
        raise UserError(
            f"peft interprets {' and '.join(aliases)} of this model as its experts; layers of that name can be "
            "adapted only if lora.dropout is 0 and the base is not quantised",
            where="lora.target_modules",
            fix=f"leave {' and '.join(aliases)} out",
        )
    parameters += [f"{name}.weight" for name in aliases if by_weight]
    return Targets([name for name in modules if name not in aliases], parameters, exclude_pattern(trunk))


def lora_config(
    model: nn.Module,
    trunk: nn.Module,
    settings: LoraSettings,
    base: Path | None,
    task_type: str = "CAUSAL_LM",
) -> LoraConfig:
    """Build peft's configuration of an adapter. Raises UserError as `resolve_targets` does."""
    targets = resolve_targets(model, trunk, settings)
    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=targets.modules,
        target_parameters=targets.parameters or None,
        exclude_modules=targets.exclude,
        base_model_name_or_path=str(base) if base else None,
        task_type=task_type,
    )


def target_modules(model: nn.Module, trunk: nn.Module, requested: Sequence[str] | None) -> list[str]:
    """Return `requested` if each names a module of the model; by default the projections of its trunk."""
    if requested is None:
        return projections_of(trunk)
    names = [key for key, _ in model.named_modules() if key]
    for module in requested:
        if not any(_matches(key, module) for key in names):
            available = sorted(
                {key.rsplit(".", 1)[-1] for key, part in model.named_modules() if is_linear(part)}
            )
            near = get_close_matches(module, available, n=3, cutoff=0.5)
            raise UserError(
                f"no module of this model is called {module}",
                where="lora.target_modules",
                fix=f"write {' or '.join(near)}" if near else f"choose among {', '.join(available)}",
            )
    return list(requested)


def _matches(key: str, name: str) -> bool:
    """Return whether peft matches `name` to the module or parameter `key`."""
    return key == name or key.endswith(f".{name}")


def _base_type(layer: Any) -> type:
    return type(layer.get_base_layer() if isinstance(layer, BaseTunerLayer) else layer)


def expert_parameters(trunk: nn.Module) -> list[str]:
    """Return the names, with their module's name, of parameters with one matrix per expert."""
    return sorted({".".join(key.split(".")[-2:]) for key, _ in _expert_parameters(trunk)})


def _expert_parameters(trunk: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the parameters with one matrix per expert, under their names without adapters."""
    for path, module in trunk.named_modules():
        if "expert" in type(module).__name__.lower():
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.dim() == 3:
                    yield f"{path.replace('.base_layer', '')}.{name}", parameter


def _peft_expert_aliases(model: nn.Module) -> set[str]:
    """Return module names that peft converts to expert parameters of this model whenever an adapter is loaded."""
    kind = getattr(getattr(model, "config", None), "model_type", None)
    family = conversion._MODEL_TO_CONVERSION_PATTERN.get(kind, "")
    return set(conversion._MOE_TARGET_MODULE_MAPPING.get(family, ()))


def is_linear(module: nn.Module) -> bool:
    """Return whether a module multiplies by one matrix: nn.Linear or a GPT-2 Conv1D."""
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def projections_of(trunk: nn.Module) -> list[str]:
    """Return the names of the projections in `trunk`. Raises UserError if there are none."""
    projections = {key.rsplit(".", 1)[-1] for key, _ in trunk.named_modules()} & PROJECTIONS
    if not projections:
        raise UserError("no known projection in this model", where="lora.target_modules", fix="name them")
    return sorted(projections)


@dataclass(frozen=True)
class Coverage:
    """Count the matrices of a trunk with and without an adapter, by name."""

    on: Counter[str]
    off: Counter[str]

    def __str__(self) -> str:
        adapted, off = (
            ", ".join(f"{count} {name}" for name, count in sorted(part.items()))
            for part in (self.on, self.off)
        )
        total = self.on.total() + self.off.total()
        return f"adapter on {self.on.total()} of {total} modules: {adapted or 'none'}; not on {off or 'none'}"


def coverage(trunk: nn.Module, adapter: str) -> Coverage:
    """Count the matrices of a trunk with and without an adapter. Fused experts count as one module per parameter."""
    adapted_counts: Counter[str] = Counter()
    off: Counter[str] = Counter()
    adapted = set()
    trunk = tower_of(trunk)
    for key, module in trunk.named_modules():
        path = key.replace(".base_layer", "")
        name = path.rsplit(".", 1)[-1]
        if isinstance(module, ParamWrapper):
            if is_linear(module.get_base_layer()):
                (adapted_counts if adapter in module.lora_A else off)[name] += 1
            elif adapter in module.lora_A:
                adapted.add(f"{path}.{module.parameter_name}")
        elif isinstance(module, BaseTunerLayer):
            (adapted_counts if adapter in getattr(module, "lora_A", ()) else off)[name] += 1
        elif is_linear(module) and ".base_layer" not in key and ".lora_" not in key:
            off[name] += 1
    for key, parameter in _expert_parameters(trunk):
        name = f"{key.rsplit('.', 1)[-1]} ({len(parameter)} experts each)"
        (adapted_counts if key in adapted else off)[name] += 1
    return Coverage(adapted_counts, off)


def require_switchable(model: PreTrainedModel) -> None:
    """Reject adapters on the embeddings or the head, or with `modules_to_save`: they cannot be switched per role."""
    outside = (model.get_input_embeddings(), model.get_output_embeddings())
    if any(isinstance(module, BaseTunerLayer) for module in outside) or any(
        isinstance(module, AuxiliaryTrainingWrapper) for module in model.modules()
    ):
        raise UserError(
            "an adapter on the embeddings or the output layer, or with modules_to_save, cannot be switched on and off",
            where="lora.target_modules",
            fix="target only layers of the trunk; merge an adapter trained elsewhere and use the merged model",
        )


def adapter_settings(config: PeftConfig, base: Path) -> str:
    """Return the JSON of an adapter's configuration on `base`, in peft's format."""
    settings = config.to_dict() | {"base_model_name_or_path": str(base), "inference_mode": True}
    return json.dumps(settings, indent=2, sort_keys=True, default=_as_json) + "\n"


def _as_json(value: Any) -> Any:
    return sorted(value) if isinstance(value, set) else str(value)
