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
from harken.models.positions import check_position_limit, position_limit

SPARSE: dict[str, Any] = {
    **FAMILIES["deepseek_v3"].settings, "index_n_heads": 2, "index_head_dim": 16, "index_topk": 24,
}  # fmt: skip


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra"])
def test_an_encoder_loaded_as_a_language_model_is_refused_in_one_line(kind: str) -> None:
    model = build(Family(kind, {"embedding_size": 32, "position_embedding_type": "absolute"}))
    for dtype in (torch.float32, torch.bfloat16):
        with pytest.raises(UserError, match="this model is not causal") as refused:
            Backbone(model.to(dtype), tiny_tokenizer())
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", ["hy_v4", "deepseek_v32", "axk2"])
def test_rows_past_what_sparse_attention_chooses_are_refused(kind: str) -> None:
    """Scores of 0 tie, and ties fall out as the length of the batch has it; up to the choice all keys are taken."""
    backbone = Backbone(build(Family(kind, SPARSE)), tiny_tokenizer())
    assert position_limit(backbone.config) == 24
    rows = [list(range(40, 64)), list(range(70, 80))]
    with torch.no_grad():
        alone = [backbone.forward(input_ids=torch.tensor([row]), use_cache=False)[0] for row in rows]
        padded = torch.tensor([row + [0] * (24 - len(row)) for row in rows])
        beside = backbone.forward(input_ids=padded, use_cache=False)
    for state, row, one in zip(beside, rows, alone, strict=True):
        torch.testing.assert_close(state[: len(row)], one, atol=1e-5, rtol=1e-5)
    with pytest.raises(UserError, match="past 24 the choice of keys of this model"):
        check_position_limit(backbone.config, 25, "a row", "lower data.max_length to {limit}")


@pytest.mark.parametrize("name", ["llama", "gpt2", "mistral", "qwen3_moe", "lfm2", "mamba"])
def test_causal_families_pass_in_both_precisions(name: str) -> None:
    model = build(FAMILIES[name])
    for dtype in (torch.float32, torch.bfloat16):
        model = model.to(dtype)
        check_causal(model, model.base_model, "here")


def test_a_decoder_of_an_encoders_kind_is_causal() -> None:
    model = build(Family("bert", {**SMALL, "is_decoder": True}))
    check_causal(model, model.base_model, "here")
