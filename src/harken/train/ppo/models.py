"""Build PPO's models: policy, critic, reference and reward model, on one shared base where possible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from harken.config import RunConfig
from harken.config.ppo import PPOTraining
from harken.data.chat import Renderer
from harken.errors import FrozenWeightsChanged
from harken.models.backbone import Backbone
from harken.models.quantised import WeightDtype
from harken.models.resolve import ModelSource
from harken.models.roles import (
    Critic,
    Policy,
    RoleRow,
    ScalarHead,
    base_parameters,
    fingerprint_tensors,
    role_row,
)
from harken.records import Prompt
from harken.reward.build import ResolvedRewards, Rewards, load_rewards, resolve_rewards
from harken.rollout.in_process import InProcessEngine
from harken.run.folder import RunFolder
from harken.run.tracking import say
from harken.train.ppo.critic import build_critic
from harken.train.ppo.learner import Ptx
from harken.train.ppo.reference import load_reference
from harken.train.ppo.stage import PPOStage

ADAPTER = "policy"


@dataclass
class PPOModels:
    """The models of a PPO run, and the fingerprints of the frozen ones."""

    config: RunConfig
    source: ModelSource
    policy: Policy
    reference: Policy
    critic: Critic | None
    found: ResolvedRewards
    rewards: Rewards
    base: Path
    """Folder of the base model under the policy's adapter."""

    def __post_init__(self) -> None:
        self.frozen_fingerprints = self._fingerprints()
        """Component → fingerprint of its weights in memory at the start of the run."""

    def engine(self, renderer: Renderer, prompt_limit: int) -> InProcessEngine:
        """Return an engine that samples from the policy with its training weights."""
        return InProcessEngine(self.policy.backbone, renderer, self.policy.adapter, prompt_limit)

    def stage(
        self, renderer: Renderer, prompts: Sequence[Prompt], held_out: Sequence[Prompt], run: RunFolder,
        ptx: Ptx | None = None,
    ) -> PPOStage:  # fmt: skip
        """Return the stage that trains these models on `prompts`."""
        return PPOStage(
            self.config, self.policy, self.reference, self.engine(renderer, self.config.data.max_length),
            self.rewards.sources, prompts, held_out, run, self.base, self.check_frozen, self.critic, ptx,
            self.rewards.judges,
        )  # fmt: skip

    def role_table(self) -> list[RoleRow]:
        """Return the rows of the role table."""
        backbone, head = self.policy.backbone, self.policy.value_head
        rows = [role_row("base", base_parameters(backbone), self.source.name)]
        trained = "new adapter on the base" if self.policy.adapter else "every weight of the base"
        rows.append(role_row("policy", self.policy.parameters().values(), trained))
        if head is not None:
            rows.append(role_row("value head", head.parameters(), "new, zero"))
        if self.critic is not None:
            where = "its adapter on the shared base" if self.critic.backbone is backbone else "its own model"
            init = self._training.ppo.critic_init.replace("_", " ")
            parameters = [*self.critic.parameters().values(), *self.critic.head.parameters()]
            rows.append(role_row("critic", parameters, f"{where}, from {init}"))
        separate = self.reference.backbone is not backbone
        source = self.reference.backbone.source
        where = source.name if separate and source else "the base, adapters off"
        rows.append(role_row("reference", base_parameters(self.reference.backbone), where))
        return [*rows, *self.rewards.role_rows()]

    @property
    def _training(self) -> PPOTraining:
        assert isinstance(self.config.training, PPOTraining)
        return self.config.training

    def check_frozen(self) -> None:
        """Raise FrozenWeightsChanged if the base, the reference or a reward model has changed since the start."""
        fingerprints = self._fingerprints()
        changed = [name for name, value in self.frozen_fingerprints.items() if fingerprints[name] != value]
        if changed:
            raise FrozenWeightsChanged(changed)
        say(
            "frozen weights unchanged: "
            + ", ".join(f"{name} {value[:12]}" for name, value in fingerprints.items())
        )

    def _fingerprints(self) -> dict[str, str]:
        fingerprints = {
            name: fingerprint_tensors(parameters)
            for name, parameters in self.rewards.frozen_parameters.items()
        }
        if self.policy.adapter is not None:
            fingerprints["base"] = fingerprint_tensors(base_parameters(self.policy.backbone))
        updated = self._training.ppo.reference_update_every is not None
        if self.reference.backbone is not self.policy.backbone and not updated:
            fingerprints["reference"] = fingerprint_tensors(base_parameters(self.reference.backbone))
        return fingerprints


def build_ppo_models(
    config: RunConfig, source: ModelSource, run: RunFolder, weight_dtype: WeightDtype, device: torch.device
) -> PPOModels:
    """Load all models. The reward model is checked before any weights are read.

    Raises UserError if the reward model is missing, is not a reward model, or has another base than the configuration
    names; if the reference has another tokenizer; if a critic cannot be initialised from the reward model.
    """
    training = config.training
    assert isinstance(training, PPOTraining)
    resolved = resolve_rewards(training)
    backbone = Backbone.load(source, weight_dtype, device)
    renderer = Renderer(backbone.tokenizer, config.data.keep_special_tokens)
    base = backbone.base_folder(run.root / "base")
    shared = None if config.lora is None else backbone  # a base that is trained cannot be shared
    rewards = load_rewards(resolved, config, source, shared, renderer, weight_dtype, device)
    if config.lora is None:
        backbone.train_all_weights()
    else:
        backbone.add_adapter(ADAPTER, config.lora, config.seed)
    with_head = training.ppo.critic == "shared" and not training.ppo.group_baseline
    value_head = ScalarHead(backbone.hidden_size, 0.0).to(device) if with_head else None
    policy = Policy(backbone, ADAPTER if config.lora else None, value_head)
    reference = load_reference(training.ppo.reference, source, shared, backbone, weight_dtype, device)
    critic = None
    if training.ppo.critic != "shared":
        critic = build_critic(
            config, source, shared, rewards.reward_model, resolved.reward_model, weight_dtype, device
        )
    return PPOModels(config, source, policy, reference, critic, resolved, rewards, base)
