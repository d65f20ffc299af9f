"""Which layers of a model adapters are put on, unless a configuration names them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn
from transformers import PreTrainedModel

from harken.errors import UserError

PROJECTIONS = {
    *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    *("qkv_proj", "gate_up_proj", "out_proj", "fc1", "fc2"),
    *("c_attn", "c_proj", "c_fc"),
    *("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj"),
    *("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"),
}
"""The attention and MLP projections as the common families name them, those of multi-head latent attention too."""


def target_modules(model: nn.Module, trunk: nn.Module, wanted: Sequence[str] | None) -> list[str]:
    """`wanted`, when each names a module of the model; without it the projections of its trunk.

    Raises UserError, with the nearest names, for the first that matches nothing: peft would pass over it if another
    did.
    """
    if wanted is None:
        return projections_of(trunk)
    names = [key for key, _ in model.named_modules() if key]
    for module in wanted:
        if not any(key == module or key.endswith(f".{module}") for key in names):
            known = sorted({key.rsplit(".", 1)[-1] for key, part in model.named_modules() if is_linear(part)})
            near = get_close_matches(module, known, n=3, cutoff=0.5)
            raise UserError(
                f"no module of this model is called {module}",
                where="lora.target_modules",
                mend=f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(known)}",
            )
    return list(wanted)


def is_linear(module: nn.Module) -> bool:
    """Whether this is a layer that multiplies by one matrix, whatever library it is from."""
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def projections_of(trunk: nn.Module) -> list[str]:
    """The names of those that `trunk` has. Raises UserError where it has none."""
    found = {key.rsplit(".", 1)[-1] for key, _ in trunk.named_modules()} & PROJECTIONS
    if not found:
        raise UserError("no known projection in this model", where="lora.target_modules", mend="name them")
    return sorted(found)


def coverage(trunk: nn.Module, adapter: str) -> str:
    """Say which modules an adapter covers, how many of each, and which matrices of the trunk it leaves alone."""
    on: Counter[str] = Counter()
    off: Counter[str] = Counter()
    for key, module in trunk.named_modules():
        name = key.rsplit(".", 1)[-1]
        if isinstance(module, BaseTunerLayer):
            (on if adapter in getattr(module, "lora_A", ()) else off)[name] += 1
        elif is_linear(module) and ".base_layer" not in key and ".lora_" not in key:
            off[name] += 1
    for key, parameter in trunk.named_parameters():
        if parameter.dim() == 3 and ".lora_" not in key:
            off[f"{key.rsplit('.', 1)[-1]} (fused experts)"] += 1
    listed = ", ".join(f"{count} {name}" for name, count in sorted(on.items()))
    rest = ", ".join(f"{count} {name}" for name, count in sorted(off.items()))
    return f"adapter on {listed or 'nothing'}; not on {rest or 'none'}"


def require_switchable(model: PreTrainedModel) -> None:
    """Raise UserError for an adapter whose effect would be in no role or in all: one of the head, or a module that
    an adapter replaces whole."""
    outside = (model.get_input_embeddings(), model.get_output_embeddings())
    if any(isinstance(module, BaseTunerLayer) for module in outside) or any(
        isinstance(module, AuxiliaryTrainingWrapper) for module in model.modules()
    ):
        raise UserError(
            "an adapter on the embeddings or the output layer, or with modules_to_save, cannot be switched on and off",
            where="lora.target_modules",
            mend="name layers of the trunk alone; merge an adapter trained elsewhere and name the merged model",
        )


def adapter_settings(config: PeftConfig, base: Path) -> str:
    """Write an adapter's configuration, on `base`, as peft reads it."""
    settings = config.to_dict() | {"base_model_name_or_path": str(base), "inference_mode": True}
    return json.dumps(settings, indent=2, sort_keys=True, default=_as_json) + "\n"


def _as_json(value: Any) -> Any:
    return sorted(value) if isinstance(value, set) else str(value)
