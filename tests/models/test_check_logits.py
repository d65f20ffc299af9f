"""Models whose states depend on later tokens are refused before anything is trained on them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from families import FAMILIES, SMALL, Family, build
from tiny import tiny_tokenizer

from harken.errors import UserError
from harken.models.backbone import Backbone
from harken.models.check_logits import check_causal

SPARSE: dict[str, Any] = {
    **FAMILIES["deepseek_v3"].settings, "index_n_heads": 2, "index_head_dim": 16, "index_topk": 64,
}  # fmt: skip


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra"])
def test_an_encoder_loaded_as_a_language_model_is_refused_in_one_line(kind: str) -> None:
    model = build(Family(kind, {"embedding_size": 32, "position_embedding_type": "absolute"}))
    with pytest.raises(UserError, match="this model is not causal") as refused:
        Backbone(model, tiny_tokenizer())
    assert "\n" not in str(refused.value)


def test_attention_that_chooses_keys_is_probed_past_its_choice() -> None:
    """Scores of 0 tie, and ties fall out as the row's length has it: 64 keys are more than a short probe has."""
    model = build(Family("hy_v4", {**SPARSE, "num_key_value_heads": 4}))
    with pytest.raises(UserError, match="this model is not causal"):
        check_causal(model, model.model, "here")
    kept = {module.index_topk for module in model.modules() if hasattr(module, "index_topk")}
    assert kept == {64}


@pytest.mark.parametrize("name", ["llama", "gpt2", "mistral", "qwen3_moe", "lfm2", "mamba"])
def test_causal_families_pass_in_both_precisions(name: str) -> None:
    model = build(FAMILIES[name])
    for dtype in (torch.float32, torch.bfloat16):
        model = model.to(dtype)
        check_causal(model, model.base_model, "here")


def test_a_decoder_of_an_encoders_kind_is_causal() -> None:
    model = build(Family("bert", {**SMALL, "is_decoder": True}))
    check_causal(model, model.base_model, "here")
