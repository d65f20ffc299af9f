"""A PPO stage under examination: every role built as a run builds it, a few answers, one small update."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from harken.batches import PolicyOutputs, TokenBatch
from harken.config import RunConfig
from harken.config.base import DataConfig
from harken.config.ppo import PPOSettings, PPOTraining
from harken.data.chat import Renderer
from harken.doctor.cached import part
from harken.doctor.context import (
    FEW,
    SPLIT_TOKENS,
    Context,
    DataSample,
    Update,
    moved,
    read_rows,
    recorded,
    watched,
)
from harken.doctor.grading import Graded, grade
from harken.errors import FrozenWeightsChanged, UserError
from harken.models.backbone import Backbone
from harken.models.quantised import WEIGHT_DTYPES
from harken.records import Prompt, Rollout, ScoredRollout
from harken.reward.build import FoundRewards, find_rewards
from harken.reward.learned import LearnedReward
from harken.reward.source import RewardSource, score_all
from harken.rollout.engine import Sampling
from harken.rollout.in_process import InProcessEngine
from harken.train.ppo.learner import Learner
from harken.train.ppo.minibatch import Minibatch
from harken.train.ppo.models import PPOModels, build_ppo_models
from harken.train.ppo.stage import PPOStage
from harken.train.ppo.targets import PPOTargets, compute_targets

TOKENS = 16
"""Longest answer of the small update."""
ANSWERS = 8
LONGEST = 128
"""Answers, and their longest, by which ends and cuts are counted."""


class PPOContext(Context):
    """A PPO stage, as its configuration describes it."""

    @property
    def training(self) -> PPOTraining:
        """Its training keys."""
        assert isinstance(self.config.training, PPOTraining)
        return self.config.training

    @property
    def settings(self) -> PPOSettings:
        """Its keys of PPO."""
        return self.training.ppo

    # -- what is loaded ---------------------------------------------------------------------------

    @part
    def found(self) -> FoundRewards:
        """The rewards the configuration names; no weights are read."""
        # Judges have a check of their own, which names them.
        ppo = self.training.ppo.model_copy(update={"judges": []})
        return find_rewards(self.training.model_copy(update={"ppo": ppo}))

    @part
    def small(self) -> RunConfig:
        """The same run, made so small that one update takes seconds. What could take the update back is off."""
        ppo = self.settings.model_dump(exclude_unset=True) | {
            "updates": 1,
            "prompts_per_update": FEW,
            "samples_per_prompt": min(self.settings.samples_per_prompt, 2),
            "epochs": 1,
            "minibatches": min(self.settings.minibatches, 2),
            "max_gen_len": min(self.settings.max_gen_len, TOKENS),
            "critic_warmup_updates": 0,
            "target_kl_per_token": None,
            "update_kl_limit": None,
            "kl_budget": None,
            "judges": [],
            "ptx": None,
        }
        said = self.config.model_dump(exclude_unset=True)
        return RunConfig.model_validate(
            said | {"training": said["training"] | {"ppo": ppo, "warmup_steps": 0}}
        )

    @part
    def roles(self) -> PPOModels:
        """Policy, reference, critic and rewards, as a run loads them."""
        _ = self.found  # a reward model that is not there is told before weights are read
        return build_ppo_models(
            self.small, self.source, self.scratch, WEIGHT_DTYPES[self.config.dtype], self.device
        )

    @part
    def backbone(self) -> Backbone:
        """The policy's."""
        return self.roles.policy.backbone

    @property
    def sources(self) -> list[RewardSource]:
        """Every part of the reward."""
        return self.roles.rewards.sources

    @part
    def engine(self) -> InProcessEngine:
        """What samples."""
        return self.roles.engine(self.renderer, self.config.data.max_length)

    @part
    def stage_itself(self) -> PPOStage:
        """The stage over a few prompts."""
        roles = self.roles
        return PPOStage(
            self.small, roles.policy, roles.reference, self.engine, self.sources, self.prompts, [],
            self.scratch, roles.base, critic=roles.critic,
        )  # fmt: skip

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """Everything that trains, by name."""
        optimisers = self.stage_itself.learner.optimisers.values()
        return {name: p for optimiser in optimisers for name, p in optimiser.parameters.items()}

    # -- what is sampled --------------------------------------------------------------------------

    @part
    def prompts(self) -> list[Prompt]:
        """A few prompts that fit."""
        return self.fitting[:ANSWERS]

    @part
    def followed(self) -> int:
        """The tokens an answer is followed to: `max_gen_len` twice over, but no further than `LONGEST`."""
        limit = min(2 * self.settings.max_gen_len, LONGEST)
        positions: int | None = getattr(self.backbone.config, "max_position_embeddings", None)
        if positions is None:
            return limit
        longest = max(
            len(self.renderer.encode_prompt(prompt.messages, prompt.tools)) for prompt in self.prompts
        )
        return max(min(limit, positions - longest), 1)

    @part
    def rollouts(self) -> list[Rollout]:
        """An answer to each, at the configuration's temperature. Under a lower limit it would be the same, cut."""
        sampling = Sampling(self.followed, self.settings.temperature, self.config.seed)
        return self.engine.generate(self.prompts, sampling, "doctor", "doctor")

    @part
    def answers(self) -> list[Rollout]:
        """The beginnings of these answers, short enough for a backward pass."""
        return [_cut(r, min(self.settings.max_gen_len, TOKENS), self.renderer) for r in self.rollouts]

    @part
    def batch(self) -> TokenBatch:
        """The prompts and answers in one padded batch; the answers' tokens are actions."""
        answers = self.answers
        return self.padded(
            [[*r.prompt_tokens, *r.response_tokens] for r in answers],
            [[False] * len(r.prompt_tokens) + [True] * len(r.response_tokens) for r in answers],
        )

    @part
    @torch.no_grad()
    def old(self) -> PolicyOutputs:
        """What the policy and critic say of them."""
        batch = self.batch
        now = self.roles.policy.evaluate(batch, self.settings.temperature)
        if self.roles.critic is None:
            return now
        values, final_values = self.roles.critic.values(batch)
        return replace(now, values=values, final_values=final_values)

    @part
    @torch.no_grad()
    def reference_logprobs(self) -> Tensor:
        """What the reference says of them."""
        return self.roles.reference.evaluate(self.batch, self.settings.temperature).logprobs

    def said(self, batch: TokenBatch) -> Tensor:
        """The policy's log-probability of every action token."""
        with torch.no_grad():
            return self.roles.policy.evaluate(batch, self.settings.temperature).logprobs[batch.response_mask]

    @part
    def scored(self) -> list[ScoredRollout]:
        """The answers with every part of their reward."""
        return score_all(self.sources, self.answers)

    def credit(self, old: PolicyOutputs, reference_logprobs: Tensor) -> PPOTargets:
        """The credit of the answers, with rewards that differ from row to row whatever the reward model says."""
        response_mask = self.batch.response_mask
        rewards = torch.linspace(-1, 1, len(response_mask), device=response_mask.device)
        settings = self.settings
        if (
            settings.group_baseline
        ):  # one answer a prompt makes no group: a critic-free stand-in of the same kind
            settings = settings.model_copy(update={"samples_per_prompt": len(response_mask)})
        cut = torch.tensor([r.stop == "length" for r in self.answers], device=response_mask.device)
        # The exact KL to the reference would cost two projections more, and its value is not what is looked at.
        exact = torch.zeros_like(old.logprobs) if settings.kl_estimator == "full" else None
        cut = cut & (settings.truncated == "bootstrap")
        return compute_targets(old, reference_logprobs, response_mask, cut, rewards, 1.0, settings, exact)

    @part
    def losses(self) -> dict[str, float]:
        """Those of the answers, all in one micro-batch."""
        targets = self.credit(self.old, self.reference_logprobs)
        return self.learned(self.batch, targets, self.reference_logprobs)

    def learned(
        self, batch: TokenBatch, targets: PPOTargets, reference: Tensor, budget: int = SPLIT_TOKENS
    ) -> dict[str, float]:
        """Losses and gradient norm of one optimiser step whose learning rate is 0: nothing changes."""
        said = self.small.training.model_dump(exclude_unset=True)
        one = {"micro_batch_tokens": budget, "ppo": said["ppo"] | {"minibatches": 1}}
        training = PPOTraining.model_validate(said | one)
        roles, seed = self.roles, self.config.seed
        learner = Learner(training, roles.policy, roles.reference, roles.critic, None, seed)
        return learner.learn(0, Minibatch.whole(batch, targets, reference), 0.0, 1.0).metrics()

    # -- what is run ------------------------------------------------------------------------------

    @part
    def update(self) -> Update:
        """One update of PPO: generate, score, evaluate, credit, learn."""
        _ = self.scored  # a reward that cannot score is told once
        stage = self.stage_itself
        parameters = stage.policy.parameters()
        before = watched(parameters)
        metrics = stage.step(0)
        thawed = []
        try:
            self.roles.check()
        except FrozenWeightsChanged as error:
            thawed = error.names
        return Update(metrics, moved(before, parameters), len(before), thawed)

    # -- the reward model -------------------------------------------------------------------------

    @property
    def reward_model(self) -> LearnedReward | None:
        """The trained reward model as a source (the first, of several); None when there is none."""
        learned = (s for s in self.sources if isinstance(s, LearnedReward))
        return next((source for source in learned if source.model.adapter is not None), None)

    @part
    def pairs(self) -> tuple[DataConfig, DataSample] | None:
        """The preferences it was trained on, as its own run recorded them, or the pipeline's; None without any."""
        main = self.found.reward_model
        record = recorded(main) if main is not None else None
        known = (
            [(record.data, record.seed)] if record is not None and record.training.type == "reward" else []
        )
        if self.around.pairs is not None:
            known.append((self.around.pairs, self.config.seed))
        for data, seed in known:
            try:
                return data, read_rows(data, "reward", seed)
            except UserError:  # a reward model may come from a machine whose data are not here
                continue
        return None

    @part
    def graded(self) -> Graded | None:
        """Its scores on some of them; None without a trained reward model or without preferences."""
        if self.reward_model is None or self.pairs is None:
            return None
        data, rows = self.pairs
        return grade(self.reward_model.model, rows, data, self.config.seed)


def _cut(rollout: Rollout, limit: int, renderer: Renderer) -> Rollout:
    """The answer as it is under a lower limit."""
    if len(rollout.response_tokens) <= limit:
        return rollout
    return replace(
        rollout,
        response_tokens=rollout.response_tokens[:limit],
        sampler_logprobs=rollout.sampler_logprobs[:limit],
        text=renderer.decode_response(rollout.response_tokens[:limit]),
        stop="length",
    )
