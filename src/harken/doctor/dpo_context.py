"""Build the objects that the checks of DPO and online DPO share: models, a stage over a few rows, one small update."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from harken.batches import TokenBatch
from harken.config import RunConfig
from harken.config.preference_training import DPOTraining, OnlineDPOTraining
from harken.data import sources
from harken.data.parse import holds_pairs
from harken.doctor.cached import cached
from harken.doctor.context import (
    FEW,
    Context,
    DataSample,
    Update,
    copy_trainable,
    count_changed,
    read_stage_rows,
    with_training,
)
from harken.models.backbone import Backbone
from harken.models.quantised import WEIGHT_DTYPES
from harken.records import TokenDemonstration
from harken.reward.build import ResolvedRewards, resolve_rewards
from harken.train.dpo.build import pairs_to_examples
from harken.train.dpo.examples import rated_examples, rated_from_rows
from harken.train.dpo.models import PolicyModels, build_policy_models
from harken.train.dpo.online import OnlineDPOStage
from harken.train.dpo.stage import DPOStage

FEW_TOKENS = 16
"""Maximum response tokens of the small update of online DPO."""


class DPOContext(Context):
    """Build a DPO or online DPO stage from its configuration."""

    @cached
    def rows(self) -> DataSample:
        """The rows that the stage reads; for kto also single responses with a thumb."""
        training = self.config.training
        if (
            isinstance(training, DPOTraining)
            and training.dpo.loss == "kto"
            and not holds_pairs(self.config.data)
        ):
            return DataSample(*sources.load_split(self.config.data, sources.load_rated, self.config.seed))
        return read_stage_rows(self.config.data, self.kind, self.config.seed)

    @cached
    def small(self) -> RunConfig:
        """The configuration with one small batch."""
        config, size = self.config, min(FEW, len(self.fitting_rows))
        if isinstance(config.training, DPOTraining):
            return with_training(config, batch_size=2 * size, max_steps=None, epochs=1, warmup_steps=0)
        assert isinstance(config.training, OnlineDPOTraining)
        section: dict[str, Any] = config.training.online_dpo.model_dump(exclude_unset=True)
        longest = min(config.training.online_dpo.max_gen_len, FEW_TOKENS)
        section |= {"prompts_per_update": size, "max_gen_len": longest}
        return with_training(config, online_dpo=section, warmup_steps=0)

    @cached
    def found_rewards(self) -> ResolvedRewards:
        """Reward model, reward parts and judges of online DPO; no weights are loaded."""
        assert isinstance(self.config.training, OnlineDPOTraining)
        return resolve_rewards(self.config.training)

    @cached
    def models(self) -> PolicyModels:
        """Policy and reference, and the reward sources of online DPO."""
        dtype = WEIGHT_DTYPES[self.config.dtype]
        return build_policy_models(self.small, self.source, self.scratch, dtype, self.device)

    @cached
    def backbone(self) -> Backbone:
        """The policy's model."""
        return self.models.policy.backbone

    @cached
    def stage(self) -> DPOStage | OnlineDPOStage:
        """The stage itself, over a few rows."""
        engine = self.models.engine(self.renderer, self.config.data.max_length)
        rows = self.fitting_rows[:FEW]
        if isinstance(self.config.training, DPOTraining):
            examples = (
                rated_examples(rated_from_rows(rows), self.config.seed, self.config.data.max_length)
                if isinstance(rows[0], TokenDemonstration)
                else pairs_to_examples(self.small, rows)
            )
            return DPOStage(self.small, self.models, examples, [], engine, [], self.scratch)
        return OnlineDPOStage(self.small, self.models, engine, rows, [], self.scratch)

    @property
    def trainable(self) -> dict[str, nn.Parameter]:
        """All trainable parameters, by name."""
        return self.stage.learner.optimiser.parameters

    @cached
    def batch(self) -> TokenBatch:
        """A few rows of different lengths in one padded batch: chosen responses, or for online DPO prompts."""
        stage = self.stage
        if isinstance(stage, DPOStage):
            return stage.learner.collate(stage.examples[:FEW], (0,))
        rows = [self.renderer.encode_prompt(p.messages, p.tools) for p in self.fitting_rows[:FEW]]
        return self.padded(rows, [[t > 0 for t in range(len(row))] for row in rows])

    @torch.no_grad()
    def outputs(self, batch: TokenBatch) -> Tensor:
        """Compute the policy's log-probabilities of the tokens in the response mask."""
        return self.models.policy.evaluate(batch).logprobs[batch.response_mask]

    @cached
    def update(self) -> Update:
        """One optimiser step; for online DPO one update."""
        before = copy_trainable(self.trainable)
        metrics = self.stage.step(0)
        changed = count_changed(before, self.trainable)
        return Update(metrics, changed, len(before), self.models.changed_frozen())
