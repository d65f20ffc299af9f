"""Build the objects that the checks of a PPO stage share: its models, a few responses and one small update."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from harken.batches import PolicyOutputs, TokenBatch
from harken.config import RunConfig
from harken.config.base import DataConfig
from harken.config.ppo import PPOSettings, PPOTraining
from harken.data.chat import Renderer
from harken.doctor.cached import cached
from harken.doctor.context import (
    FEW,
    SPLIT_TOKENS,
    Context,
    DataSample,
    Update,
    copy_trainable,
    count_changed,
    read_stage_rows,
    recorded_config,
)
from harken.doctor.grading import RewardScores, score_preferences
from harken.errors import FrozenWeightsChanged, UserError
from harken.models.backbone import Backbone
from harken.models.quantised import WEIGHT_DTYPES
from harken.records import Prompt, Rollout, ScoredRollout
from harken.reward.build import ResolvedRewards, resolve_rewards
from harken.reward.learned import LearnedReward
from harken.reward.source import RewardSource, score_all
from harken.rollout.engine import Sampling
from harken.rollout.in_process import InProcessEngine
from harken.train.ppo.learner import Learner
from harken.train.ppo.minibatch import Minibatch
from harken.train.ppo.models import PPOModels, build_ppo_models
from harken.train.ppo.stage import PPOStage
from harken.train.ppo.targets import PPOTargets, compute_targets

UPDATE_RESPONSE_TOKENS = 16
"""Maximum response tokens of the small update."""
RESPONSES = 8
MAX_RESPONSE_TOKENS = 128
"""Number and longest length of the responses that are checked for their end."""


class PPOContext(Context):
    """Build a PPO stage from its configuration."""

    @property
    def training(self) -> PPOTraining:
        """Its training keys."""
        assert isinstance(self.config.training, PPOTraining)
        return self.config.training

    @property
    def settings(self) -> PPOSettings:
        """Its `training.ppo` keys."""
        return self.training.ppo

    # -- models ------------------------------------------------------------------------------------

    @cached
    def found_rewards(self) -> ResolvedRewards:
        """The rewards that the configuration names; no weights are read."""
        # Judges have their own check, which names them.
        ppo = self.training.ppo.model_copy(update={"judges": []})
        return resolve_rewards(self.training.model_copy(update={"ppo": ppo}))

    @cached
    def small_config(self) -> RunConfig:
        """The same run, small enough for an update in seconds. It has no limit that could roll the update back."""
        ppo = self.settings.model_dump(exclude_unset=True) | {
            "updates": 1,
            "prompts_per_update": FEW,
            "samples_per_prompt": min(self.settings.samples_per_prompt, 2),
            "epochs": 1,
            "minibatches": min(self.settings.minibatches, 2),
            "max_gen_len": min(self.settings.max_gen_len, UPDATE_RESPONSE_TOKENS),
            "critic_warmup_updates": 0,
            "target_kl_per_token": None,
            "update_kl_limit": None,
            "kl_budget": None,
            "judges": [],
            "ptx": None,
        }
        values = self.config.model_dump(exclude_unset=True)
        return RunConfig.model_validate(
            values | {"training": values["training"] | {"ppo": ppo, "warmup_steps": 0}}
        )

    @cached
    def models(self) -> PPOModels:
        """Policy, reference, critic and rewards, loaded as in a run."""
        _ = self.found_rewards  # report a missing reward model before any weights are read
        return build_ppo_models(
            self.small_config, self.source, self.scratch, WEIGHT_DTYPES[self.config.dtype], self.device
        )

    @cached
    def backbone(self) -> Backbone:
        """The policy's backbone."""
        return self.models.policy.backbone

    @property
    def sources(self) -> list[RewardSource]:
        """Every part of the reward."""
        return self.models.rewards.sources

    @cached
    def engine(self) -> InProcessEngine:
        """The engine that samples responses."""
        return self.models.engine(self.renderer, self.config.data.max_length)

    @cached
    def stage(self) -> PPOStage:
        """The PPO stage on a few prompts."""
        models = self.models
        return PPOStage(
            self.small_config, models.policy, models.reference, self.engine, self.sources, self.prompts, [],
            self.scratch, models.base, critic=models.critic,
        )  # fmt: skip

    @property
    def trainable(self) -> dict[str, nn.Parameter]:
        """All trainable parameters, by name."""
        optimisers = self.stage.learner.optimisers.values()
        return {name: p for optimiser in optimisers for name, p in optimiser.parameters.items()}

    # -- rollouts ----------------------------------------------------------------------------------

    @cached
    def prompts(self) -> list[Prompt]:
        """A few prompts that fit."""
        return self.fitting_rows[:RESPONSES]

    @cached
    def followed(self) -> int:
        """Sampling limit in tokens: twice `max_gen_len`, at most `LONGEST`."""
        limit = min(2 * self.settings.max_gen_len, MAX_RESPONSE_TOKENS)
        positions: int | None = getattr(self.backbone.config, "max_position_embeddings", None)
        if positions is None:
            return limit
        longest = max(
            len(self.renderer.encode_prompt(prompt.messages, prompt.tools)) for prompt in self.prompts
        )
        return max(min(limit, positions - longest), 1)

    @cached
    def rollouts(self) -> list[Rollout]:
        """A response to each prompt. A lower limit gives the same response, truncated."""
        sampling = Sampling(self.followed, self.settings.temperature, self.config.seed)
        return self.engine.generate(self.prompts, sampling, "doctor", "doctor")

    @cached
    def responses(self) -> list[Rollout]:
        """These responses, truncated for a cheap backward pass."""
        return [
            _truncate(r, min(self.settings.max_gen_len, UPDATE_RESPONSE_TOKENS), self.renderer)
            for r in self.rollouts
        ]

    @cached
    def batch(self) -> TokenBatch:
        """Prompts and responses in one padded batch."""
        responses = self.responses
        return self.padded(
            [[*r.prompt_tokens, *r.response_tokens] for r in responses],
            [[False] * len(r.prompt_tokens) + [True] * len(r.response_tokens) for r in responses],
        )

    @cached
    @torch.no_grad()
    def old_outputs(self) -> PolicyOutputs:
        """Outputs of the policy and the critic before the update."""
        batch = self.batch
        outputs = self.models.policy.evaluate(batch, self.settings.temperature)
        if self.models.critic is None:
            return outputs
        values, final_values = self.models.critic.values(batch)
        return replace(outputs, values=values, final_values=final_values)

    @cached
    @torch.no_grad()
    def ref_logprobs(self) -> Tensor:
        """The reference's log-probabilities."""
        return self.models.reference.evaluate(self.batch, self.settings.temperature).logprobs

    def outputs(self, batch: TokenBatch) -> Tensor:
        """Compute the policy's log-probability of every response token."""
        with torch.no_grad():
            return self.models.policy.evaluate(batch, self.settings.temperature).logprobs[batch.response_mask]

    @cached
    def scored(self) -> list[ScoredRollout]:
        """The responses with every part of their reward."""
        return score_all(self.sources, self.responses)

    def targets(self, old: PolicyOutputs, ref_logprobs: Tensor) -> PPOTargets:
        """Compute PPO targets from rewards that rise from −1 to 1 over the rows, independent of the reward model."""
        response_mask = self.batch.response_mask
        rewards = torch.linspace(-1, 1, len(response_mask), device=response_mask.device)
        settings = self.settings
        if settings.group_baseline:  # one response per prompt is not a group, so all rows form one
            settings = settings.model_copy(update={"samples_per_prompt": len(response_mask)})
        truncated = torch.tensor([r.stop == "length" for r in self.responses], device=response_mask.device)
        # The exact KL from the reference would cost two more matmuls with the vocabulary, and no check reads its value.
        exact = torch.zeros_like(old.logprobs) if settings.kl_estimator == "full" else None
        truncated = truncated & (settings.truncated == "bootstrap")
        return compute_targets(old, ref_logprobs, response_mask, truncated, rewards, 1.0, settings, exact)

    @cached
    def losses(self) -> dict[str, float]:
        """Losses on the responses, in one micro-batch."""
        targets = self.targets(self.old_outputs, self.ref_logprobs)
        return self.zero_lr_step(self.batch, targets, self.ref_logprobs)

    def zero_lr_step(
        self, batch: TokenBatch, targets: PPOTargets, reference: Tensor, budget: int = SPLIT_TOKENS
    ) -> dict[str, float]:
        """Return losses and gradient norm of one optimiser step with learning rate 0, which changes no weight."""
        values = self.small_config.training.model_dump(exclude_unset=True)
        single_pass = {"micro_batch_tokens": budget, "ppo": values["ppo"] | {"minibatches": 1}}
        training = PPOTraining.model_validate(values | single_pass)
        models, seed = self.models, self.config.seed
        learner = Learner(training, models.policy, models.reference, models.critic, None, seed)
        return learner.learn(0, Minibatch.whole(batch, targets, reference), 0.0, 1.0).metrics()

    # -- updates ------------------------------------------------------------------------------------

    @cached
    def update(self) -> Update:
        """One PPO update: generate, score, evaluate, compute targets, learn."""
        _ = self.scored  # report a reward that cannot score once
        stage = self.stage
        parameters = stage.policy.parameters()
        before = copy_trainable(parameters)
        metrics = stage.step(0)
        changed_frozen = []
        try:
            self.models.check_frozen()
        except FrozenWeightsChanged as error:
            changed_frozen = error.names
        return Update(metrics, count_changed(before, parameters), len(before), changed_frozen)

    # -- the reward model -------------------------------------------------------------------------

    @property
    def reward_model(self) -> LearnedReward | None:
        """The first trained reward model among the reward sources; None if there is none."""
        learned = (s for s in self.sources if isinstance(s, LearnedReward))
        return next((source for source in learned if source.model.adapter is not None), None)

    @cached
    def pairs(self) -> tuple[DataConfig, DataSample] | None:
        """The preferences it was trained on, from its own run or the pipeline; None if unknown."""
        main = self.found_rewards.reward_model
        record = recorded_config(main) if main is not None else None
        candidates = (
            [(record.data, record.seed)] if record is not None and record.training.type == "reward" else []
        )
        if self.pipeline.pairs is not None:
            candidates.append((self.pipeline.pairs, self.config.seed))
        for data, seed in candidates:
            try:
                return data, read_stage_rows(data, "reward", seed)
            except UserError:  # its data may be on another machine
                continue
        return None

    @cached
    def reward_scores(self) -> RewardScores | None:
        """Its scores on some of these preferences; None without a trained reward model or preferences."""
        if self.reward_model is None or self.pairs is None:
            return None
        data, rows = self.pairs
        return score_preferences(self.reward_model.model, rows, data, self.config.seed)


def _truncate(rollout: Rollout, limit: int, renderer: Renderer) -> Rollout:
    """Truncate the response to a lower limit."""
    if len(rollout.response_tokens) <= limit:
        return rollout
    return replace(
        rollout,
        response_tokens=rollout.response_tokens[:limit],
        sampler_logprobs=rollout.sampler_logprobs[:limit],
        text=renderer.decode_response(rollout.response_tokens[:limit]),
        stop="length",
    )
