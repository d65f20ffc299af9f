"""A whole PPO stage over the tiny model, built the way a run builds it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tiny import tiny_backbone, tiny_tokenizer

from harken.config import RunConfig
from harken.config.ppo import PPOTraining
from harken.data.chat import Renderer
from harken.models.roles import Critic, Policy, ScalarHead
from harken.records import Message, Prompt, Rollout, Score
from harken.reward.build import RewardLoader, resolve_sources
from harken.rollout.in_process import InProcessEngine
from harken.run.folder import RunFolder
from harken.train.ppo.learner import Ptx
from harken.train.ppo.stage import PPOStage


class RuleReward:
    """A reward that is a function of the rollout."""

    name = "rule"

    def __init__(self, rule: Callable[[Rollout], float]) -> None:
        self.rule = rule

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        return [Score(self.name, self.rule(r)) for r in rollouts]


def share_of_low_tokens(rollout: Rollout) -> float:
    return sum(t < 128 for t in rollout.response_tokens) / len(rollout.response_tokens)


def ppo_config(**keys: Any) -> RunConfig:
    """A small PPO run in float32; `keys` change training, its `ppo` part changes ppo."""
    ppo = {
        "updates": 4,
        "prompts_per_update": 6,
        "epochs": 2,
        "minibatches": 2,
        "max_gen_len": 8,
        "missing_eos_penalty": 0.0,
    }
    ppo |= keys.pop("ppo", {})
    training = {
        "type": "ppo",
        "lr": 1e-3,
        "lr_schedule": "constant",
        "reward_model": {"random_for_debugging": True},
    }
    return RunConfig.model_validate(
        {
            "dtype": "float32",
            "seed": keys.pop("seed", 839),
            "tensorboard": False,
            "lora": keys.pop("lora", {"rank": 8}),
            "data": {"path": "unused"},
            "training": training | keys | {"ppo": ppo},
        }
    )


def build_stage(
    root: Path,
    config: RunConfig,
    rule: Callable[[Rollout], float] = share_of_low_tokens,
    prompts: int = 12,
    folder: str = "run",
    ptx: Ptx | None = None,
    device: str = "cpu",
) -> PPOStage:
    """A PPO stage on a fresh tiny model; its rollouts go to root/folder."""
    assert isinstance(config.training, PPOTraining)
    settings = config.training.ppo
    backbone = tiny_backbone(device=device)
    adapter = "policy" if config.lora else None
    if config.lora:
        backbone.add_adapter("policy", config.lora, config.seed)
    else:
        backbone.train_all_weights()
    shared = settings.critic == "shared" and not settings.group_baseline
    policy = Policy(backbone, adapter, ScalarHead(backbone.hidden_size, 0.0).to(device) if shared else None)
    critic = None
    if settings.critic != "shared":
        home = backbone if settings.critic == "adapter" else tiny_backbone(device=device)
        home.add_adapter("critic", config.lora, config.seed)
        critic = Critic(home, "critic", ScalarHead(home.hidden_size, 0.0).to(device))
    engine = InProcessEngine(backbone, Renderer(tiny_tokenizer()), adapter, 64)
    asked = [
        Prompt(f"p{i}", (Message("user", "x" * (1 + 3 * i % 17)),), details={"keywords": []})
        for i in range(prompts)
    ]
    loader = RewardLoader(None, torch.float32, torch.device(device), 4096)
    judges = loader.sources(resolve_sources(settings.judges), engine.renderer, role="judge")
    reference = Policy(backbone if config.lora else tiny_backbone(device=device), None)
    run = RunFolder(root / folder)
    return PPOStage(
        config, policy, reference, engine, [RuleReward(rule)], asked, asked[:2], run, root,
        critic=critic, ptx=ptx, judges=judges,
    )  # fmt: skip
