"""Distinguish a bidirectional encoder from a causal language model by its configuration, before weights are read."""

from __future__ import annotations

from pathlib import Path

from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    PretrainedConfig,
)

from harken.models.load_errors import load_errors

FIX = "copy or download the folder again"


def is_encoder(folder: Path) -> bool:
    """Return whether the configuration in a model's folder is an encoder's, such as BERT's.

    False without a config.json. Raises UserError when it cannot be read.
    """
    if not (folder / "config.json").is_file():
        return False
    with load_errors("its configuration cannot be read", str(folder), FIX):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    return is_bidirectional(config)


def is_bidirectional(config: PretrainedConfig) -> bool:
    """Return whether a configuration is that of a text model whose tokens attend to later tokens.

    Model types with a masked and no causal language model are encoders; of types with both, those not declared as
    decoders (`is_decoder`; XLM: `causal`). So is a decoder with `use_bidirectional_attention`.
    """
    kind = type(config)
    if getattr(config, "is_encoder_decoder", False) or kind not in MODEL_MAPPING:
        return False
    if getattr(config, "use_bidirectional_attention", None) in (True, "all"):
        return True
    if kind not in MODEL_FOR_MASKED_LM_MAPPING:
        return False
    decoder = getattr(config, "is_decoder", False) or getattr(config, "causal", False)
    return kind not in MODEL_FOR_CAUSAL_LM_MAPPING or not decoder
