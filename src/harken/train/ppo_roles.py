"""Who plays what in PPO: policy, value head, reference and reward model, on one base where they can be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from harken.config import PPOTraining, RunConfig
from harken.data.chat import Renderer
from harken.errors import UserError
from harken.models.backbone import Backbone
from harken.models.resolve import ModelSource, require, resolve
from harken.models.roles import (
    Policy,
    RewardModel,
    RoleRow,
    ScalarHead,
    fingerprint,
    lineage_fingerprint,
    role_row,
)
from harken.reward.learned import LearnedReward
from harken.reward.rules import penalties
from harken.reward.source import RewardSource
from harken.rollout.in_process import InProcessEngine
from harken.run.folder import RunFolder
from harken.run.tracking import say

ADAPTER = "policy"


@dataclass
class PPORoles:
    """The models of a PPO run, and the fingerprints of those that must not change."""

    config: RunConfig
    source: ModelSource
    policy: Policy
    reference: Policy
    reward_model: RewardModel
    reward_lineage: dict[str, Any]
    base: Path
    """The whole model on disk that the policy's adapter stands on."""

    def __post_init__(self) -> None:
        self._frozen = self._fingerprints()

    def engine(self, renderer: Renderer, prompt_limit: int) -> InProcessEngine:
        """Samples from the policy with the weights that train."""
        return InProcessEngine(self.policy.backbone, renderer, ADAPTER, prompt_limit)

    def reward_sources(self, renderer: Renderer) -> list[RewardSource]:
        """The reward model, then the penalties the configuration asks for."""
        training = self.config.training
        assert isinstance(training, PPOTraining)
        learned = LearnedReward(
            self.reward_model,
            renderer,
            training.reward_model.weight,
            training.ppo.score_clip,
            2 * training.micro_batch_tokens,
        )
        return [learned, *penalties(training.ppo)]

    def table(self) -> list[RoleRow]:
        """The role table."""
        backbone, head = self.policy.backbone, self.policy.value_head
        assert head is not None
        shared = self.reward_model.backbone is backbone
        where = f"adapter on the shared base, {self.reward_lineage['name']}"
        rows = [
            role_row("base", _base_parameters(backbone), self.source.name),
            role_row("policy", backbone.adapter_parameters(ADAPTER).values(), "new adapter on the base"),
            role_row("value head", head.parameters(), "new, zero"),
            role_row("reference", _base_parameters(backbone), "the base, adapters off"),
        ]
        if not shared:
            rows.append(
                role_row("reward base", _base_parameters(self.reward_model.backbone), "its own model")
            )
            where = f"adapter on its own base, {self.reward_lineage['name']}"
        return [*rows, role_row("reward model", _reward_parameters(self.reward_model), where)]

    def check(self) -> None:
        """Frozen means frozen: raise RuntimeError if the base or the reward model has changed since the start."""
        now = self._fingerprints()
        moved = [name for name, value in self._frozen.items() if now[name] != value]
        if moved:
            raise RuntimeError(f"frozen weights changed during the run: {', '.join(moved)}")
        say("frozen weights unchanged: " + ", ".join(f"{name} {value[:12]}" for name, value in now.items()))

    def _fingerprints(self) -> dict[str, str]:
        return {
            "base and reference": fingerprint(_base_parameters(self.policy.backbone)),
            "reward model": fingerprint(
                [*_base_parameters(self.reward_model.backbone), *_reward_parameters(self.reward_model)]
            ),
        }


def build_ppo_roles(
    config: RunConfig, source: ModelSource, run: RunFolder, dtype: torch.dtype, device: torch.device
) -> PPORoles:
    """Load everything. The reward model is checked before any weights are read.

    Raises UserError when it is missing, is no reward model, or stands on another base than the
    configuration names.
    """
    training = config.training
    assert isinstance(training, PPOTraining)
    settings = training.reward_model
    reward_source = None
    if not settings.random_for_debugging:
        reward_source = require(resolve(settings.checkpoint_path), "reward")
        _check_base(reward_source, settings.model_name)
    backbone = Backbone.load(source, dtype, device)
    base = backbone.base_folder(run.root / "base")
    if reward_source is None:
        say("warning: RANDOM REWARD. The reward head is untrained; this run is stamped `random reward`")
        head = ScalarHead(backbone.hidden_size, (backbone.hidden_size + 1) ** -0.5, config.seed)
        reward_model = RewardModel(backbone, None, head.to(device).requires_grad_(False))
        lineage: dict[str, Any] = {"name": "random", "fingerprint": None}
    else:
        say(f"reward model: {reward_source.describe()}")
        reward_model = RewardModel.load(reward_source, dtype, device, share=backbone)
        lineage = {"name": reward_source.name, "fingerprint": lineage_fingerprint(reward_source)}
    backbone.add_adapter(ADAPTER, config.lora, config.seed)
    value_head = ScalarHead(backbone.hidden_size, 0.0).to(device)
    policy = Policy(backbone, ADAPTER, value_head)
    return PPORoles(config, source, policy, Policy(backbone, None), reward_model, lineage, base)


def _check_base(reward: ModelSource, wanted: str) -> None:
    if not wanted:
        return
    assert reward.base is not None
    if lineage_fingerprint(resolve(wanted)) != lineage_fingerprint(reward.base):
        raise UserError(
            f"this reward model was trained on {reward.base.name}, not on {wanted}",
            where="training.reward_model.model_name",
            mend="leave model_name empty, or name the base it was trained on",
        )


def _base_parameters(backbone: Backbone) -> list[nn.Parameter]:
    return [p for name, p in backbone.model.named_parameters() if "lora_" not in name]


def _reward_parameters(model: RewardModel) -> list[nn.Parameter]:
    adapter = model.backbone.adapter_parameters(model.adapter) if model.adapter else {}
    return [*adapter.values(), *model.head.parameters()]
