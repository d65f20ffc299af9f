"""Load weights from a folder, and fail for a tensor that is missing, truncated or of another shape.

transformers and peft fill missing tensors with random numbers and only warn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, AutoModelForCausalLM, PreTrainedModel

from harken.errors import UserError
from harken.models import quantised_linear
from harken.models.load_errors import load_errors
from harken.models.quantised import Quantised, WeightDtype, compute_dtype
from harken.models.resolve import ModelSource

COPY_MODEL_FIX = "copy or download the folder again; or its model is too large for this machine's memory"
COPY_ADAPTER_FIX = "copy the folder again, or train the adapter again"
FIX = "choose a model of a family in docs/models.md"
NOT_MERGED = "the adapter cannot be added to the weights of its base"
MEMORY = "its model in float32 has to fit into memory; if it does, train the adapter again"
ADAPTER_WEIGHTS = "adapter_model.safetensors"


def read_model(
    folder: Path, weight_dtype: WeightDtype, device: torch.device | None = None
) -> PreTrainedModel:
    """Load a causal language model. Code in the folder is never run, pickles are never read.

    A quantised model is created on `device`, since it cannot be moved afterwards. Raises UserError when transformers
    cannot read it, or a weight is missing.
    """
    options: dict[str, Any] = {}
    if isinstance(weight_dtype, Quantised):
        options = {
            "quantization_config": weight_dtype.settings(),
            "device_map": {"": device or torch.device("cpu")},
        }
    with load_errors("this model cannot be read", str(folder), COPY_MODEL_FIX):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        inner = config.get_text_config()
        has_language_model = inner is not config and type(inner) in MODEL_FOR_CAUSAL_LM_MAPPING
        raise UserError(
            f"transformers has no causal language model of the type {config.model_type}",
            where=str(folder),
            fix="save its language model by itself, as docs/models.md shows" if has_language_model else FIX,
        )
    with load_errors("this model cannot be read", str(folder), COPY_MODEL_FIX):
        model, loading_info = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=compute_dtype(weight_dtype),
            **options,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    require_all(loading_info["missing_keys"], folder, COPY_MODEL_FIX)
    if isinstance(weight_dtype, Quantised):
        quantised_linear.install(model, weight_dtype.dtype)
    read: PreTrainedModel = model
    return read


def load_adapter(model: nn.Module, folder: Path, name: str = "default") -> PeftModel:
    """Load a frozen adapter from disk and add it to the model.

    Raises UserError when peft cannot read the adapter, it does not fit the model, or a weight of it is missing.
    """
    with load_errors("this adapter cannot be read", str(folder), COPY_ADAPTER_FIX):
        if isinstance(model, PeftModel):
            model.load_adapter(folder, adapter_name=name)
        else:
            model = PeftModel.from_pretrained(model, folder, adapter_name=name)
        # Without embeddings, for which peft would query the hub about the base.
        loaded = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
        with safe_open(folder / ADAPTER_WEIGHTS, "pt") as file:
            stored_names = set(file.keys())
    missing = [key for key in loaded if key not in stored_names]
    # Older peft versions used other names for the same number of tensors.
    renamed = len(missing) <= len(stored_names - loaded.keys())
    require_all([] if renamed else missing, folder, COPY_ADAPTER_FIX)
    stored = read_tensors(folder / ADAPTER_WEIGHTS, [])
    mismatched = [key for key in loaded if key in stored and not _same_values(loaded[key], stored[key])]
    if mismatched:
        raise UserError(
            f"peft did not load all of this adapter: {_first_names(mismatched)}",
            where=str(folder),
            fix=COPY_ADAPTER_FIX,
        )
    return model


def new_adapter(model: nn.Module, lora: LoraConfig, name: str) -> PeftModel:
    """Add a new adapter. Raises UserError for a layer that takes none, or that peft would not load again."""
    with load_errors(
        "this adapter cannot be put on the model", "lora", "change lora.target_modules or lora.rank"
    ):
        if not isinstance(model, PeftModel):
            model = PeftModel(model, lora, adapter_name=name)
        else:
            model.add_adapter(name, lora)
        load_result = set_peft_model_state_dict(
            model, get_peft_model_state_dict(model, adapter_name=name), name
        )
    mark = f".{name}."
    missing = sorted(
        {key.split(".lora_")[0] for key in load_result.missing_keys if ".lora_" in key and mark in key}
    )
    if missing:
        raise UserError(
            f"peft saves an adapter of this model under names that it does not load again ({_first_names(missing)})",
            where="lora.target_modules",
            fix=f"name modules other than {', '.join(sorted({key.rsplit('.', 1)[-1] for key in missing}))}",
        )
    return model


def merge_adapter(model: PeftModel, name: str) -> PreTrainedModel:
    """Merge the adapter `name` (or the active one, if there is none of that name) into the base's weights."""
    names = [name] if name in model.peft_config else None
    with load_errors(NOT_MERGED, name, MEMORY):
        merged: PreTrainedModel = model.merge_and_unload(progressbar=False, adapter_names=names)
    return merged


def read_merged(source: ModelSource, weight_dtype: WeightDtype, device: torch.device) -> PreTrainedModel:
    """Load a model and merge the adapters in its chain in float32, rounded once.

    Raises UserError as `read_model` does, and for adapters under a base that is to be quantised.
    """
    base, *adapters = [link for link in source.chain() if link.kind != "reward"]
    if not adapters:
        model = read_model(base.folder, weight_dtype, device)
        return model if isinstance(weight_dtype, Quantised) else model.to(device)
    if isinstance(weight_dtype, Quantised):
        raise UserError(
            f"is {source.description}, and a merged model is not quantised",
            where=source.name,
            fix="save it merged and name that folder, or set dtype: bfloat16",
        )
    merged: Any = read_model(base.folder, torch.float32)
    for link in adapters:
        merged = merge_adapter(load_adapter(merged, link.folder), str(link.folder))
    cast_parameters(merged, weight_dtype)
    moved: PreTrainedModel = merged.to(device)
    return moved


def read_tensors(path: Path, names: Sequence[str]) -> dict[str, Tensor]:
    """Load these tensors of a safetensors file. Raises UserError when it cannot be read or lacks one."""
    with load_errors("not readable safetensors", str(path), COPY_ADAPTER_FIX):
        tensors: dict[str, Tensor] = load_file(path)
    require_all([name for name in names if name not in tensors], path, COPY_ADAPTER_FIX)
    return {name: tensors[name] for name in names}


def cast_parameters(model: nn.Module, dtype: torch.dtype) -> None:
    """Cast the parameters; buffers such as rotary frequencies are float32 by design."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)


def require_all(missing: Sequence[str] | set[str], where: Path, fix: str) -> None:
    """Raise UserError if weights are missing."""
    if missing:
        raise UserError(f"weights are missing: {_first_names(missing)}", where=str(where), fix=fix)


def _first_names(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return f"{', '.join(ordered[:3])}{f' and {len(ordered) - 3} more' if len(ordered) > 3 else ''}"


def _same_values(loaded: Tensor, stored: Tensor) -> bool:
    return loaded.shape == stored.shape and torch.equal(loaded.cpu(), stored.to(loaded.dtype))
