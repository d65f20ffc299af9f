"""What adapters are put on, and that it is said."""

from __future__ import annotations

import torch
from tiny import tiny_backbone, tiny_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM

from harken.config import LoraSettings
from harken.models.lora_targets import coverage, target_modules


def test_latent_attention_is_adapted_whole() -> None:
    """DeepSeek's kind projects queries, keys and values down and up again: all four matrices count."""
    config = AutoConfig.for_model(
        "deepseek_v2", vocab_size=len(tiny_tokenizer()), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=4, q_lora_rank=8, kv_lora_rank=8, qk_rope_head_dim=4,
        qk_nope_head_dim=4, v_head_dim=8, first_k_dense_replace=2,
    )  # fmt: skip
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    found = set(target_modules(model, model.model, None))
    assert {"q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj", "gate_proj"} <= found


def test_adapted_and_unadapted_layers_are_reported() -> None:
    backbone = tiny_backbone()
    backbone.add_adapter("policy", LoraSettings(rank=2, target_modules=["q_proj", "v_proj"]), seed=0)
    backbone.add_adapter("reward", LoraSettings(rank=2), seed=0)
    message = str(coverage(backbone.trunk, "policy"))
    assert message.startswith("adapter on 4 of 14 modules: 2 q_proj, 2 v_proj; not on ")
    assert "2 gate_proj" in message and "2 k_proj" in message
    everywhere = str(coverage(backbone.trunk, "reward"))
    assert "2 down_proj" in everywhere.partition(";")[0] and everywhere.endswith("not on none")


def test_fused_experts_that_no_adapter_covers_are_said() -> None:
    config = AutoConfig.for_model(
        "mixtral", vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, num_local_experts=4,
    )  # fmt: skip
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert "1 gate_up_proj (4 experts each)" in str(coverage(model.model, "policy"))
