"""Derive layer sizes and parameter counts from a model's settings, without reading or allocating weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PretrainedConfig

from harken.config import LoraSettings
from harken.errors import UserError
from harken.kernels.trunk import trunk_of
from harken.models.logits_head import softcaps
from harken.models.lora_targets import Targets, resolve_targets
from harken.models.quantised import Quantised, WeightDtype, compute_dtype


@dataclass(frozen=True)
class ModelShape:
    """The sizes that determine memory and arithmetic."""

    parameters: int
    """Number of all parameters; tied ones count once."""
    linear_parameters: int
    """Parameters of the linear layers that can be quantised: all but the unembedding."""
    largest_matrix: int
    """Number of elements of the largest matrix."""
    layers: int
    hidden_size: int
    intermediate_size: int
    heads: int
    kv_heads: int
    """Key-value heads; fewer than `heads` with grouped-query attention."""
    head_dim: int
    vocab_size: int
    projections: tuple[tuple[int, int], ...]
    """(inputs, outputs) of every module that the adapter targets."""
    is_llama_like: bool
    """Whether layers have the structure that is counted: two RMS norms, attention, a gated MLP."""
    softcapped: bool = False
    """Whether logits are soft-capped, which takes one more copy of them."""
    experts: tuple[tuple[int, int, int], ...] = ()
    """(experts, inputs, outputs) of every fused parameter that the adapter targets."""

    def weight_bytes(self, weight_dtype: WeightDtype) -> float:
        """Count the bytes of the frozen base; in 4 bits, scales add 1/64 byte per weight, in 8 bits nothing."""
        itemsize = compute_dtype(weight_dtype).itemsize
        if not isinstance(weight_dtype, Quantised):
            return float(itemsize * self.parameters)
        bytes_per_weight = 1.0 if weight_dtype.kind == "int8" else 0.5 + 1 / 64
        return bytes_per_weight * self.linear_parameters + itemsize * (
            self.parameters - self.linear_parameters
        )

    def lora_parameters(self, rank: int) -> int:
        """Count the parameters of an adapter of this rank: A [rank, inputs] and B [outputs, rank] per matrix."""
        per_rank = sum(inputs + outputs for inputs, outputs in self.projections)
        return rank * (per_rank + sum(count * (inputs + outputs) for count, inputs, outputs in self.experts))


def shape_of(
    config: PretrainedConfig, lora: LoraSettings | None = None, *, classifier: bool = False
) -> ModelShape:
    """Return the shape of a model with these settings. `lora` has the adapter's targets; None for the default ones."""
    make = AutoModelForSequenceClassification if classifier else AutoModelForCausalLM
    with torch.device("meta"):
        model = make.from_config(config)
    targets = _targets(model, lora)
    parameters = [p.numel() for p in model.parameters()]
    outer = {model.get_output_embeddings(), getattr(model, "score", None)}
    config = config.get_text_config()
    if config.is_heterogeneous:  # all layers are counted like one of them
        config.allow_global_per_layer_attribute_access = True
    heads = int(config.num_attention_heads)
    return ModelShape(
        parameters=sum(parameters),
        linear_parameters=sum(
            m.weight.numel() for m in model.modules() if type(m) is nn.Linear and m not in outer
        ),
        largest_matrix=max(parameters),
        layers=int(config.num_hidden_layers),
        hidden_size=int(config.hidden_size),
        intermediate_size=int(getattr(config, "intermediate_size", None) or 4 * config.hidden_size),
        heads=heads,
        kv_heads=int(getattr(config, "num_key_value_heads", None) or heads),
        head_dim=int(getattr(config, "head_dim", None) or config.hidden_size // heads),
        vocab_size=int(config.vocab_size),
        projections=_projections(model, targets),
        experts=_experts(model, targets),
        is_llama_like=_is_llama_like(model, int(config.num_hidden_layers)),
        softcapped=bool(softcaps(config)) and not classifier,
    )


def _targets(model: nn.Module, lora: LoraSettings | None) -> Targets:
    """Resolve the adapter's targets; none if the run has no adapter and the model no known projection."""
    try:
        return resolve_targets(model, trunk_of(model), lora or LoraSettings())
    except UserError:
        if lora is not None:
            raise
        return Targets([], [])


def _projections(model: nn.Module, targets: Targets) -> tuple[tuple[int, int], ...]:
    projections = []
    for name, module in model.named_modules():
        weight: Any = getattr(module, "weight", None)
        if targets.cover_module(name) and weight is not None and weight.dim() == 2:
            # A linear layer's weight is [outputs, inputs], a GPT-2 Conv1D's [inputs, outputs].
            outputs, inputs = weight.shape if isinstance(module, nn.Linear) else reversed(weight.shape)
            projections.append((int(inputs), int(outputs)))
    return tuple(projections)


def _experts(model: nn.Module, targets: Targets) -> tuple[tuple[int, int, int], ...]:
    shapes = [p.shape for key, p in model.named_parameters() if p.dim() == 3 and targets.cover_parameter(key)]
    return tuple((int(count), int(inputs), int(outputs)) for count, inputs, outputs in shapes)


def _is_llama_like(model: nn.Module, layers: int) -> bool:
    modules = list(model.modules())
    norms = sum(type(module).__name__.endswith("RMSNorm") for module in modules)
    gated = sum(hasattr(module, "gate_proj") for module in modules)
    return norms == 2 * layers + 1 and gated == layers
