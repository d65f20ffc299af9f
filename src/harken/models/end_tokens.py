"""Collect the end tokens of a model, so that a rollout stops where transformers' `generate` stops."""

from __future__ import annotations

from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import GENERATION_CONFIG_NAME

from harken.chat.turn_end import eos_ids
from harken.models.load_errors import load_errors
from harken.models.resolve import ModelSource
from harken.models.tokenizer import response_end_tokens


def end_tokens(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, source: ModelSource | None
) -> list[int]:
    """Return every token that ends a response: the one trained on, eos, and those of the generation settings."""
    where = str(source.folder if source else tokenizer.name_or_path)
    settings = getattr(model, "generation_config", None)
    configured = eos_ids(settings.eos_token_id if settings is not None else None)
    adapter_ends = _adapter_end_tokens(source) if source is not None else []
    return list(dict.fromkeys([*response_end_tokens(tokenizer, where=where), *configured, *adapter_ends]))


def generation_settings(tokenizer: PreTrainedTokenizerBase, ends: list[int]) -> GenerationConfig:
    """Make the settings with which `generate` of plain transformers stops at the tokens that end a response here.

    Sampling settings of the base are not copied.
    """
    pad = tokenizer.pad_token_id  # padding after the end of a row in a batch; eos if there is no pad token
    return GenerationConfig(
        eos_token_id=(ends[0] if len(ends) == 1 else ends) or None,
        pad_token_id=pad if pad is not None else tokenizer.eos_token_id,
    )


def _adapter_end_tokens(source: ModelSource) -> list[int]:
    """Return the end tokens in the generation_config.json of adapters above the base."""
    ends: list[int] = []
    for link in source.chain()[1:]:
        if (path := link.folder / GENERATION_CONFIG_NAME).is_file():
            with load_errors(
                "its generation settings cannot be read", str(path), "restore the file or delete it"
            ):
                ends += eos_ids(GenerationConfig.from_pretrained(link.folder).eos_token_id)
    return ends
