"""The real 135M model in bfloat16: one PPO update, with the properties that have to survive 16 bits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ppo_stage import RuleReward, ppo_config, share_of_low_tokens

from harken.data.chat import Renderer
from harken.models.backbone import Backbone
from harken.models.resolve import resolve
from harken.models.roles import Policy, ScalarHead, fingerprint_tensors
from harken.records import Message, Prompt
from harken.rollout.in_process import InProcessEngine
from harken.run.folder import RunFolder
from harken.train.ppo.stage import PPOStage


@pytest.fixture(scope="module")
def backbone(smollm2: Path) -> Backbone:
    return Backbone.load(resolve(str(smollm2)), torch.bfloat16, "cpu")


def test_an_update_in_bfloat16(backbone: Backbone, tmp_path: Path) -> None:
    """P1, P28, P31, P37 in bf16: first ratio 1, the sampler near the trainer, the base untouched to the bit."""
    config = ppo_config(lr=1e-4, ppo={"prompts_per_update": 2, "max_gen_len": 6})
    backbone.add_adapter("policy", config.lora, config.seed)
    policy = Policy(backbone, "policy", ScalarHead(backbone.hidden_size, 0.0))
    renderer = Renderer(backbone.tokenizer)
    assert renderer.pad != renderer.end_of_turn
    questions = ["Name a fruit.", "Say hello."]
    prompts = [Prompt(f"q{i}", (Message("user", q),)) for i, q in enumerate(questions)]
    stage = PPOStage(
        config,
        policy,
        Policy(backbone, None),
        InProcessEngine(backbone, renderer, "policy", 96),
        [RuleReward(share_of_low_tokens)],
        prompts,
        [],
        RunFolder(tmp_path),
        tmp_path,
    )
    base = [p for name, p in backbone.model.named_parameters() if "lora_" not in name]
    before = fingerprint_tensors(base)
    metrics = stage.step(0)
    assert metrics["policy/first_ratio_gap"] < 1e-5
    assert metrics["kl/mean"] == pytest.approx(0.0, abs=1e-4)
    assert metrics["sampler/logprob_gap"] < 0.15
    assert fingerprint_tensors(base) == before
    assert stage.step(1)["kl/mean"] != 0.0
