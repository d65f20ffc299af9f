"""Multimodal checkpoints train on text with adapters on the language model alone, or are refused with a fix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from every_type import AnyType
from families import ALONE, SMALL, build
from tiny import tiny_tokenizer
from transformers import AutoConfig, AutoModelForImageTextToText

from harken.config import LoraSettings
from harken.errors import UserError
from harken.models.backbone import Backbone
from harken.models.lora_targets import coverage
from harken.models.resolve import resolve
from harken.plan.shape import shape_of

VISION: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "depth": 1,
    "num_heads": 2, "out_hidden_size": 32, "image_size": 28, "patch_size": 14, "head_dim": 8,
}  # fmt: skip


@pytest.mark.parametrize("kind", ["gemma3", "fuyu"])
def test_adapters_are_on_the_language_model_alone(kind: str) -> None:
    backbone = Backbone(build(AnyType(kind)), tiny_tokenizer())
    backbone.add_adapter("policy", LoraSettings(rank=2), seed=0)
    names = list(backbone.adapter_parameters("policy"))
    assert names and all(".language_model." in name for name in names)
    assert str(coverage(backbone.trunk, "policy")).endswith("not on none")


def test_the_plan_counts_the_language_models_adapter() -> None:
    backbone = Backbone(build(AnyType("gemma3")), tiny_tokenizer())
    settings = LoraSettings(rank=2)
    backbone.add_adapter("policy", settings, seed=0)
    real = sum(p.numel() for p in backbone.adapter_parameters("policy").values())
    assert shape_of(backbone.model.config, settings).lora_parameters(2) == real


@pytest.mark.parametrize("kind", ["mistral3", "qwen2_5_vl"])
def test_other_composites_are_refused_with_a_fix_that_works(kind: str, tmp_path: Path) -> None:
    text = {**SMALL, "head_dim": 8} if kind == "mistral3" else SMALL
    config = AutoConfig.for_model(kind, text_config=text, vision_config=VISION)
    config.get_text_config().pad_token_id = 0
    AutoModelForImageTextToText.from_config(config).save_pretrained(tmp_path / "whole")
    tiny_tokenizer().save_pretrained(tmp_path / "whole")
    with pytest.raises(UserError, match=f"no causal language model of the type {kind}") as refused:
        Backbone.load(resolve(str(tmp_path / "whole")), torch.float32, "cpu")
    assert "docs/models.md" in str(refused.value) and "\n" not in str(refused.value)
    if kind == "qwen2_5_vl":  # nor of its text part
        assert "choose a model of a family" in str(refused.value)
        return
    exec(ALONE, {"source": tmp_path / "whole", "target": tmp_path / "text"})
    backbone = Backbone.load(resolve(str(tmp_path / "text")), torch.float32, "cpu")
    assert backbone.config.num_hidden_layers == 2
