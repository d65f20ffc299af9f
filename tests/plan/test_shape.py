"""Counts of parameters against what publishers say, and against the modules peft finds."""

from __future__ import annotations

from dataclasses import replace

import pytest
from transformers import Gemma2Config, GPT2Config, Qwen3Config

from harken.config import LoraSettings
from harken.models.lora_targets import PROJECTIONS
from harken.plan.activations import LOGIT_ROWS, PassMemory, decode_logits_bytes
from harken.plan.builtin_configs import known_config
from harken.plan.shape import shape_of


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 134_515_008),
        ("Qwen/Qwen2.5-0.5B-Instruct", 494_032_768),
        ("Qwen/Qwen2.5-1.5B", 1_543_714_304),
        ("Qwen/Qwen2.5-7B-Instruct", 7_615_616_512),
    ],
)
def test_known_models_have_their_published_size(name: str, parameters: int) -> None:
    config = known_config(name)
    assert config is not None
    shape = shape_of(config)
    assert shape.parameters == parameters
    assert shape.is_llama_like


def test_an_adapter_is_counted_by_hand() -> None:
    """Qwen2.5-0.5B, rank 16: per layer q, o 896 → 896; k, v 896 → 128; gate, up 896 → 4864; down back."""
    config = known_config("Qwen/Qwen2.5-0.5B")
    assert config is not None
    sides = 2 * (896 + 896) + 2 * (896 + 128) + 3 * (896 + 4864)
    assert shape_of(config).lora_parameters(16) == 24 * 16 * sides
    assert shape_of(config, LoraSettings(target_modules=["q_proj"])).lora_parameters(8) == 24 * 8 * (
        896 + 896
    )


def test_a_convolution_of_gpt2_is_read_the_other_way_round() -> None:
    config = GPT2Config(n_embd=48, n_layer=2, n_head=4, vocab_size=100, n_positions=64)
    shape = shape_of(config)
    assert (48, 3 * 48) in shape.projections and (3 * 48, 48) not in shape.projections
    assert shape.intermediate_size == 4 * 48 and shape.kv_heads == shape.heads == 4
    assert not shape.is_llama_like
    assert {"c_attn", "c_proj", "c_fc"} <= PROJECTIONS


def test_norms_inside_attention_are_no_plain_layer() -> None:
    config = Qwen3Config(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=8, vocab_size=64,
    )  # fmt: skip
    assert not shape_of(config).is_llama_like


def test_a_classifier_has_no_unembedding() -> None:
    config = known_config("HuggingFaceTB/SmolLM2-135M")
    assert config is not None
    config.num_labels = 1
    assert shape_of(config, classifier=True).parameters == 134_515_008 + 576  # the unembedding was tied


@pytest.mark.parametrize("cap", [None, 30.0])
def test_a_cap_is_one_more_copy_of_the_logits(cap: float | None) -> None:
    config = Gemma2Config(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=8, vocab_size=5000, final_logit_softcapping=cap,
    )  # fmt: skip
    shape = shape_of(config)
    assert shape.softcapped == (cap is not None)
    plain = replace(shape, softcapped=False)
    of_chunk = PassMemory(shape, 4, 8, on_cpu=False).unembedding(500) - PassMemory(
        plain, 4, 8, on_cpu=False
    ).unembedding(500)
    assert of_chunk == (4 * LOGIT_ROWS * 5000 if cap else 0)
    assert decode_logits_bytes(shape, 3, 4) - decode_logits_bytes(plain, 3, 4) == (4 * 3 * 5000 if cap else 0)
