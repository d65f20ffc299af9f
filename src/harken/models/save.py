"""Write adapters and models as folders that peft and transformers open."""

from __future__ import annotations

from pathlib import Path

from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from harken.models.end_tokens import generation_settings
from harken.models.load_errors import save_errors
from harken.models.lora_targets import adapter_settings


def write_adapter(
    model: PeftModel, name: str, tokenizer: PreTrainedTokenizerBase, folder: Path, base: Path
) -> None:
    """Write one adapter of `model` as a peft folder on `base`, with the tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = get_peft_model_state_dict(model, adapter_name=name)
    with save_errors(folder):
        save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "adapter_model.safetensors")
        tokenizer.save_pretrained(folder)
    (folder / "adapter_config.json").write_text(adapter_settings(model.peft_config[name], base))


def write_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, end_tokens: list[int], folder: Path
) -> None:
    """Write a whole model with its tokenizer and generation settings."""
    model.generation_config = generation_settings(tokenizer, end_tokens)
    with save_errors(folder):
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
