"""`training.gradient_checkpointing`: every kind of training ends with the very weights it ends with without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ppo_stage import ppo_config
from tiny import tiny_backbone

from harken.config import RunConfig
from harken.kernels import gradient_checkpointing
from harken.records import TokenDemonstration, TokenPair
from harken.train.ppo.stage import PPOStage
from harken.train.reward_model import RewardStage
from harken.train.sft import SupervisedStage

Build = Callable[[Callable[..., PPOStage], bool], Any]


def config(kind: str, on: bool) -> RunConfig:
    training = {"type": kind, "lr": 1e-2, "batch_size": 4, "gradient_checkpointing": on}
    keys = {"dtype": "float32", "data": {"path": "rows"}, "lora": {"rank": 4, "dropout": 0.2}}
    return RunConfig.model_validate({**keys, "training": training})


def sft(_: Callable[..., PPOStage], on: bool) -> SupervisedStage:
    rows = [
        TokenDemonstration(str(i), (*range(9, 12 + i), 2), (*[False] * 3, *[True] * (1 + i)))
        for i in range(4)
    ]
    return SupervisedStage(config("sft", on), tiny_backbone(), rows, rows)


def reward(_: Callable[..., PPOStage], on: bool) -> RewardStage:
    pairs = [TokenPair(str(i), (*range(9, 10 + i), 40, 2), (*range(9, 10 + i), 90, 2)) for i in range(4)]
    return RewardStage(config("reward", on), tiny_backbone(), Path("base"), pairs, pairs)


def ppo(make_stage: Callable[..., PPOStage], on: bool) -> PPOStage:
    """With a critic adapter on the same base, and the reference's whole distribution in the loss."""
    keys = {"critic": "adapter", "kl_estimator": "full", "kl_in": "both", "epochs": 1}
    return make_stage(ppo_config(gradient_checkpointing=on, ppo=keys), folder=str(on))


@pytest.mark.parametrize("build", [sft, reward, ppo])
def test_the_same_weights_bit_for_bit(
    make_stage: Callable[..., PPOStage], monkeypatch: pytest.MonkeyPatch, build: Build
) -> None:
    calls: list[bool] = []
    checkpoint = gradient_checkpointing.checkpoint

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(torch.is_grad_enabled())
        return checkpoint(*args, **kwargs)

    monkeypatch.setattr(gradient_checkpointing, "checkpoint", counted)
    found = []
    for on in (False, True):
        assert not calls
        stage = build(make_stage, on)
        torch.manual_seed(0)
        stage.step(0)
        stage.evaluate(1)
        found.append(stage.tensors())
    assert calls and all(calls)  # neither rollouts nor evaluations ran through it
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
