"""Build the policy and its reference, and the reward sources of online DPO, on one shared base where possible."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from harken.config import RunConfig
from harken.config.preference_training import OnlineDPOTraining
from harken.data.chat import Renderer
from harken.errors import FrozenWeightsChanged
from harken.models.backbone import Backbone
from harken.models.end_tokens import generation_settings
from harken.models.load_errors import save_errors
from harken.models.quantised import WeightDtype
from harken.models.resolve import ModelSource
from harken.models.roles import (
    Policy,
    RoleRow,
    base_parameters,
    fingerprint_tensors,
    lineage_fingerprint,
    role_row,
)
from harken.reward.build import ResolvedRewards, Rewards, load_rewards, resolve_rewards
from harken.rollout.in_process import InProcessEngine
from harken.run.folder import RunFolder
from harken.run.tracking import say

ADAPTER = "policy"


@dataclass
class PolicyModels:
    """The policy that is trained, its frozen reference, and any frozen reward models."""

    config: RunConfig
    source: ModelSource
    policy: Policy
    reference: Policy
    base: Path
    """Folder of the base model under the policy's adapter."""
    found: ResolvedRewards | None = None
    rewards: Rewards | None = None

    def __post_init__(self) -> None:
        self.frozen_fingerprints = self._fingerprints()
        """Component → fingerprint of its weights in memory at the start of the run."""

    def engine(self, renderer: Renderer, prompt_limit: int) -> InProcessEngine:
        """Return an engine that samples from the policy with its training weights."""
        return InProcessEngine(self.policy.backbone, renderer, self.policy.adapter, prompt_limit)

    def reference_facts(self) -> tuple[str, ...]:
        """Return what the reference's scores depend on besides the rows: its weights and how they are computed."""
        backbone = self.reference.backbone
        return lineage_fingerprint(self.source), self.config.dtype, str(backbone.device), torch.__version__

    def role_table(self) -> list[RoleRow]:
        """Return the rows of the role table."""
        shared = self.policy.adapter is not None
        trained = "new adapter on the base" if shared else "every weight of the base"
        where = "the base, adapters off" if shared else f"a frozen copy of {self.source.name}"
        return [
            role_row("base", base_parameters(self.policy.backbone), self.source.name),
            role_row("policy", self.policy.parameters().values(), trained),
            role_row("reference", base_parameters(self.reference.backbone), where),
            *(self.rewards.role_rows() if self.rewards else []),
        ]

    def save_policy(self, folder: Path) -> None:
        """Write the policy: as an adapter on its base, unrounded, or as a whole model."""
        backbone = self.policy.backbone
        if self.policy.adapter is None:
            backbone.save_model(folder)
            return
        backbone.save_adapter(self.policy.adapter, folder, self.base)
        with save_errors(folder):
            generation_settings(backbone.tokenizer, backbone.end_tokens).save_pretrained(folder)

    def check_frozen(self) -> None:
        """Raise FrozenWeightsChanged if the base, the reference or a reward model has changed since the start."""
        fingerprints = self._fingerprints()
        if changed := self.changed_frozen(fingerprints):
            raise FrozenWeightsChanged(changed)
        say(
            "frozen weights unchanged: "
            + ", ".join(f"{name} {value[:12]}" for name, value in fingerprints.items())
        )

    def changed_frozen(self, fingerprints: Mapping[str, str] | None = None) -> list[str]:
        """Return the components whose frozen weights changed since the start; `fingerprints` are the present ones."""
        fingerprints = self._fingerprints() if fingerprints is None else fingerprints
        return [name for name, value in self.frozen_fingerprints.items() if fingerprints[name] != value]

    def _fingerprints(self) -> dict[str, str]:
        frozen = dict(self.rewards.frozen_parameters) if self.rewards else {}
        # With an adapter, reference and base are the same weights.
        name = "base" if self.policy.adapter is not None else "reference"
        frozen[name] = base_parameters(self.reference.backbone)
        return {name: fingerprint_tensors(parameters) for name, parameters in frozen.items()}


def build_policy_models(
    config: RunConfig, source: ModelSource, run: RunFolder, weight_dtype: WeightDtype, device: torch.device
) -> PolicyModels:
    """Load policy and reference, and for online DPO the reward sources, which are checked before any weights are read.

    The reference is the model that training starts from: the base without its adapter, or, if every weight is trained,
    a frozen copy. Raises UserError as `resolve_rewards` does.
    """
    training = config.training
    resolved = resolve_rewards(training) if isinstance(training, OnlineDPOTraining) else None
    backbone = Backbone.load(source, weight_dtype, device)
    renderer = Renderer(backbone.tokenizer, config.data.keep_special_tokens)
    base = backbone.base_folder(run.root / "base")
    shared = None if config.lora is None else backbone
    rewards = (
        load_rewards(resolved, config, source, shared, renderer, weight_dtype, device) if resolved else None
    )
    if config.lora is None:
        backbone.train_all_weights()
    else:
        backbone.add_adapter(ADAPTER, config.lora, config.seed)
    policy = Policy(backbone, ADAPTER if config.lora else None)
    reference = Policy(shared or Backbone.load(source, weight_dtype, device), None)
    return PolicyModels(config, source, policy, reference, base, resolved, rewards)
