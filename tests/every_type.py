"""A tiny random model of every type that transformers has a causal language model of, through every stage.

python tests/every_type.py              all that `families` has not, a line each
python tests/every_type.py gemma3 blt   those

Settings are made from the type's own defaults: what is known by a name of a width, a depth or a count is set small.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from families import EXPERTS, FAMILIES, GROUPS, LATENT, OLD, SMALL, Family, run_family
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

SIZES: dict[str, Any] = {
    **GROUPS, **LATENT, **OLD, **SMALL, **EXPERTS,
    "head_dim": 8, "sliding_window": 20, "ffn_dim": 48, "d_model": 32, "n_layers": 2, "n_heads": 4, "num_layers": 2,
    "num_heads": 4, "max_seq_len": 512, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "embedding_size": 32, "state_size": 4,
    "mamba_d_state": 4, "mamba_d_head": 8, "mamba_n_heads": 8, "mamba_expand": 2, "mamba_d_ssm": 64,
    "linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "index_n_heads": 2, "index_head_dim": 8, "index_topk": 512, "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": 300, "num_kv_shared_layers": 0, "image_size": 28, "patch_size": 14,
    "mm_tokens_per_image": 4, "image_token_index": 299, "boi_token_index": 298, "eoi_token_index": 297,
}  # fmt: skip
"""By every name that some family gives a size."""

SETTINGS: dict[str, dict[str, Any]] = {
    "dots3_note": {"num_key_value_heads": 4},
    "dots3_note_text": {"num_key_value_heads": 4},
    "zaya": {"num_experts_per_tok": 1},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "reformer": {"is_decoder": True, "axial_pos_embds_dim": (16, 16), "axial_pos_shape": (16, 32)},
    "cohere_compass_text": {"layer_types": ["full_attention", "full_attention"]},
}
"""What a type needs besides."""

LARGEST = 20_000_000
"""Parameters of a model that is still tiny."""


@dataclass(frozen=True)
class AnyType(Family):
    """A type by its own defaults, made small."""

    def config(self) -> PretrainedConfig:
        """Return the settings of a tiny model."""
        kind = type(AutoConfig.for_model(self.kind))
        return kind(**_small(kind) | SETTINGS.get(self.kind, {}) | self.settings)


def _small(kind: type[PretrainedConfig]) -> dict[str, Any]:
    """The settings of a configuration class, and of those in it, that have a small value."""
    plain = kind()
    defaults, aliases = plain.to_dict(), getattr(kind, "attribute_map", {})
    small = {name: value for name, value in SIZES.items() if name in defaults or name in aliases}
    for alias, name in aliases.items():
        if alias in small and name in small:
            del small[alias]
    if "qk_rope_head_dim" in small:
        small.pop("head_dim", None)
        small["num_key_value_heads"] = 4
    kinds = list(dict.fromkeys(defaults.get("layer_types") or []))
    if kinds:
        small["layer_types"] = (kinds * 2)[:2]
    for name in getattr(kind, "sub_configs", {}):
        if isinstance(part := getattr(plain, name, None), PretrainedConfig):
            small[name] = _small(type(part))
    return small


def not_built(family: AnyType) -> str:
    """Say why no tiny model of a type can be made; "" where it can."""
    try:
        config = family.config()
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except Exception as error:  # noqa: BLE001  whatever its code raises of small settings
        return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
    size = sum(parameter.numel() for parameter in model.parameters())
    return f"{size:,} parameters" if size > LARGEST else ""


TYPES: dict[str, AnyType] = {
    kind: AnyType(kind)
    for kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if kind not in {family.kind for family in FAMILIES.values()}
}

NOT_BUILT = (
    "blt", "cohere_compass_text", "dbrx", "dots3_note", "dots3_note_text", "gemma3n", "gemma4_assistant",
    "gemma4_unified_assistant", "musicgen", "musicgen_melody", "qwen4_exp", "qwen4_exp_text", "zamba", "zamba2",
)  # fmt: skip
"""Types whose settings have no small form here; `not_built` says why."""


def main(names: list[str]) -> int:
    """Run these types, print a line each; 1 when one is neither right nor refused at its first stage."""
    bad = 0
    for name in names or TYPES:
        if reason := not_built(TYPES[name]):
            print("none", name, reason, flush=True)
            continue
        with tempfile.TemporaryDirectory() as folder:
            outcome = run_family(TYPES[name], Path(folder))
        message = outcome.refused or outcome.broken.splitlines()[-1:] or (outcome.worst, outcome.way)
        print("good" if outcome.good else "BAD ", name, outcome.stage, message, flush=True)
        bad += not outcome.good
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
