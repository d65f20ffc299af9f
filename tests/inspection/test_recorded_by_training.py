"""What the PPO stage itself writes: the trace agrees with the model, the replay with the update."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ppo_stage import build_stage, ppo_config

from harken.config import files as config_files
from harken.inspection.recorded import read_step
from harken.inspection.replay import replay
from harken.inspection.tokens import token_rows
from harken.reward.rules import penalties
from harken.train.ppo.stage import PPOStage

Trained = tuple[PPOStage, list[dict[str, float]], Path]


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., Trained]:
    """Two updates; log-probabilities are measured again after the second."""

    def run(**ppo: Any) -> Trained:
        config = ppo_config(ppo={"trace_every": 2, "kl_coef": 0.3, "temperature": 0.8, **ppo})
        stage = build_stage(tmp_path, config)
        stage.reward_sources = [*stage.reward_sources, *penalties(stage.settings)]
        metrics = [stage.step(number) for number in range(2)]
        stage.recorder.run.config.write_text(config_files.dump(config))
        return stage, metrics, stage.recorder.run.root

    return run


def test_new_logprobs_are_those_of_the_model_after_the_update(train: Callable[..., Trained]) -> None:
    """S0-11, property 1: a plain forward pass of the trained model, shifted by one here, gives every token's number."""
    stage, _, root = train()
    step = read_step(root, 2)
    for row, record in enumerate(step.rollouts):
        tokens = torch.tensor([[*record["prompt_tokens"], *record["response_tokens"]]])
        with torch.no_grad(), stage.policy.backbone.role(stage.policy.adapter):
            logits = stage.policy.backbone.model(tokens).logits[0].float() / 0.8
        start = len(record["prompt_tokens"])
        for t in token_rows(step, row, str):
            place = start + t["position"]
            want = float(logits[place - 1].log_softmax(-1)[t["token_id"]])
            assert t["logprob_new"] == pytest.approx(want, abs=1e-4)
            assert t["logprob_old"] == pytest.approx(t["logprob_sampler"], abs=1e-4)
    assert not read_step(root, 1).has_new_logprobs()


def test_totals_are_the_metrics_of_the_update(train: Callable[..., Trained]) -> None:
    """S0-11: what is summed over the tokens of a trace is what the run reported."""
    _, metrics, root = train()
    for number in (1, 2):
        step = read_step(root, number)
        rows = [token_rows(step, row, str) for row in range(len(step.rollouts))]
        kl = sum(t["kl"] for tokens in rows for t in tokens) / len(rows)
        assert metrics[number - 1]["kl/mean"] == pytest.approx(kl, abs=1e-5)
        reward = sum(record["reward"] for record in step.rollouts) / len(rows)
        assert metrics[number - 1]["reward/mean"] == pytest.approx(reward, abs=1e-5)


@pytest.mark.parametrize(
    "ppo",
    [
        {},
        {"kl_control": "adaptive", "kl_target": 0.01, "kl_horizon": 10.0, "truncated": "mask"},
        {"advantage": "rloo", "samples_per_prompt": 2},
        {"kl_estimator": "full", "kl_in": "both", "truncated": "bootstrap"},
        {"kl_estimator": "k2", "kl_in": "loss", "missing_eos_penalty": 0.5, "length_penalty": 0.01},
    ],
    ids=["default", "adaptive", "rloo", "full", "loss"],
)
def test_a_replay_reproduces_what_training_recorded(
    ppo: dict[str, Any], train: Callable[..., Trained]
) -> None:
    """To 1e-6, update after update, with the coefficient the update really had."""
    _, metrics, root = train(**ppo)
    for number in (1, 2):
        lines = replay(root, number, [])
        assert lines[1].startswith("reproduces the recorded advantages: max difference")
        coefficient = metrics[number - 1]["kl/coef"]
        assert f"KL coefficient: {coefficient:g} → {coefficient:g}" in lines
