"""A fresh PPO stage on demand, one reward model on disk for all who need it, and PPO stages built on that."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from oracles import stage_of_a_run
from ppo_stage import build_stage
from tiny import save_tiny

from harken.config import RunConfig
from harken.models.backbone import Backbone
from harken.models.resolve import resolve
from harken.records import TokenPair
from harken.run.folder import RunFolder
from harken.train.ppo.stage import PPOStage
from harken.train.reward_model import RewardStage


@pytest.fixture
def make_stage(tmp_path: Path) -> Callable[..., PPOStage]:
    return functools.partial(build_stage, tmp_path)


@dataclass(frozen=True)
class TrainedReward:
    """A reward model that was trained and saved, and what it learnt from."""

    base: Path
    run: Path
    pairs: list[TokenPair]
    trained: RewardStage


@pytest.fixture(scope="session")
def trained_reward(tmp_path_factory: pytest.TempPathFactory) -> TrainedReward:
    """Twelve pairs, three steps, `normalise: standardise`."""
    root = tmp_path_factory.mktemp("reward")
    base = Path(save_tiny(root / "base"))
    draw = np.random.default_rng(0)
    pairs = []
    for i in range(12):
        prompt = tuple(int(t) for t in draw.integers(5, 200, 3 + i % 5))
        pairs.append(TokenPair(f"p{i}", (*prompt, 40, 2), (*prompt, 90, 91, 2)))
    config = RunConfig.model_validate(
        {
            "dtype": "float32",
            "data": {"path": "rows"},
            "lora": {"rank": 4},
            "training": {"type": "reward", "lr": 5e-3, "batch_size": 4, "normalise": "standardise"},
        }
    )
    run = RunFolder(root / "run")
    stage = RewardStage(config, Backbone.load(resolve(str(base)), torch.float32, "cpu"), base, pairs, [])
    for number in range(stage.total):
        stage.step(number)
    stage.save(run.final)
    return TrainedReward(base, run.root, pairs, stage)


@pytest.fixture
def run_with_reward(trained_reward: TrainedReward, tmp_path: Path) -> Callable[..., PPOStage]:
    """(training.ppo keys) → the stage of a real run: base, reward model and prompts are read from their folders."""
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"Say {i}"}) + "\n" for i in range(6)))
    outputs = (tmp_path / f"run {number}" for number in itertools.count())
    usual = {
        "updates": 4, "prompts_per_update": 6, "epochs": 1, "minibatches": 2, "max_gen_len": 6, "kl_coef": 0.0,
    }  # fmt: skip

    def build(**ppo: object) -> PPOStage:
        config = RunConfig.model_validate(
            {
                "model_name": str(trained_reward.base),
                "dtype": "float32",
                "device": "cpu",
                "lora": {"rank": 4},
                "tensorboard": False,
                "data": {"path": str(prompts), "max_length": 96},
                "training": {
                    "type": "ppo",
                    "lr": 1e-2,
                    "lr_schedule": "constant",
                    "reward_model": {"checkpoint_path": str(trained_reward.run)},
                    "ppo": usual | ppo,
                },
            }
        )
        return stage_of_a_run(config, next(outputs))

    return build
