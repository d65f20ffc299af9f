"""The keys of PPO."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from harken.config.base import (
    Count,
    DataConfig,
    Fraction,
    NonNegative,
    Positive,
    PositiveInt,
    Rate,
    Signed,
    Size,
    Strict,
    Temperature,
)
from harken.config.rewards import Judges, RewardPart, name_clash
from harken.config.training import Optimisation


class RewardModelSettings(Strict):
    """Which trained reward model scores the rollouts."""

    checkpoint_path: str = ""
    """The run folder of a reward model (or its `final`)."""
    model_name: str = ""
    """The base the reward model must have been trained on; any other is an error. Empty: take what it says."""
    weight: Signed = 1.0
    random_for_debugging: bool = False
    """Score with an untrained head. The run is stamped `random reward`."""

    @model_validator(mode="after")
    def _one_source(self) -> RewardModelSettings:
        if self.random_for_debugging == bool(self.checkpoint_path):
            raise ValueError(
                "name a trained reward model in checkpoint_path"
                if not self.checkpoint_path
                else "checkpoint_path and random_for_debugging exclude each other"
            )
        return self


class PtxSettings(Strict):
    """Supervised rows that keep the policy from forgetting (arXiv:2203.02155, "PPO-ptx")."""

    data: DataConfig
    """Demonstrations, or preferences whose chosen side is imitated."""
    coef: Positive = 0.5
    """Weight of their mean negative log-likelihood, per token, beside PPO's loss."""
    batch_size: Size = 16
    """Rows in an optimiser step."""


class PPOSettings(Strict):
    """Proximal policy optimisation over tokens, under KL control. Defaults follow arXiv:2403.17031 where it speaks."""

    updates: PositiveInt = 100
    prompts_per_update: Size = 32
    samples_per_prompt: Size = 1
    epochs: Size = 4
    """Passes over each rollout batch."""
    minibatches: Size = 1
    """Optimiser steps a pass."""
    max_gen_len: Size = 64
    temperature: Temperature = 1.0
    """Of sampling, and of every log-probability."""
    clip_range: Positive = 0.2
    clip_range_high: Positive | None = None
    """The upper clip, where it is to differ: ratios are held within 1 − clip_range … 1 + clip_range_high."""
    value_clip_range: Positive | None = 0.2
    """None: the value loss is not clipped."""
    vf_coef: NonNegative = 0.1
    entropy_coef: NonNegative = 0.0
    gamma: Fraction = 1.0
    lam: Fraction = 0.95
    advantage: Literal["gae", "reward_minus_value", "rloo", "grpo"] = "gae"
    """Per token by GAE; the answer's return minus V(prompt); or minus its group's mean, without a critic."""
    whiten_advantages: bool | None = None
    """Left out: true with a critic, false with a group baseline (rloo, grpo)."""
    critic: Literal["shared", "adapter", "model"] = "shared"
    """The value head reads the policy's own states, those of an adapter of its own, or of a model of its own."""
    critic_init: Literal["zero", "reward_model"] = "zero"
    """An own critic starts from the policy's base with a head of zeros, or from the reward model."""
    critic_warmup_updates: Count = 0
    """At most so many first updates train the critic alone …"""
    critic_warmup_until: float = Field(default=0.3, ge=-1e9, le=1)
    """… until its explained variance reaches this."""
    reference: str = "sft"
    """What the KL is measured to: `sft` (the model PPO starts from), `base` (the one under it), or a model."""
    reference_update_every: PositiveInt | None = None
    """Updates after which the reference becomes the present policy, again and again."""
    kl_estimator: Literal["k1", "abs", "k2", "k3", "full"] = "k1"
    """Per token, with Δ = log π − log π_ref: Δ, |Δ|, Δ²/2, exp(−Δ)−1+Δ, or the sum over the vocabulary."""
    kl_in: Literal["reward", "loss", "both"] = "reward"
    """Where the KL is paid: in each token's reward; as kl_coef × KL in the loss (k2, full); or, for `full`, in
    both: the loss prices the token itself, the reward the states it leads to."""
    kl_coef: NonNegative = 0.1
    kl_coef_final: NonNegative | None = None
    """With kl_control linear or cosine: the coefficient of the last update."""
    kl_control: Literal["fixed", "adaptive", "linear", "cosine"] = "fixed"
    kl_target: Positive = 6.0
    """Adaptive control: the KL to the reference to hold, in nats per sequence."""
    kl_horizon: Positive = 10_000.0
    """Adaptive control: sequences over which the coefficient may change by about a fifth."""
    kl_coef_min: NonNegative = 0.001
    kl_coef_max: Positive = 10.0
    kl_budget: Positive | None = None
    """The run stops once an update's rollouts are further than this from the reference, in nats per sequence."""
    update_kl_limit: Positive | None = None
    """KL(old‖new) of one update, measured after it, in nats per sequence: above it the update is taken back."""
    target_kl_per_token: Positive | None = None
    """Stop an update's remaining optimiser steps once KL(old‖new) exceeds this, in nats per token.

    Measured on a step's own minibatch before it is taken: needs more than one step an update.
    """
    score_clip: Positive | None = None
    """Clip the reward model's score to ± this, before anything is added."""
    truncated: Literal["penalise", "bootstrap", "mask"] = "penalise"
    """Answers cut at max_gen_len: penalise; let V of the state they were cut at stand for their score; or
    leave them out of the loss."""
    missing_eos_penalty: NonNegative = 1.0
    """With `penalise`: subtracted from a cut answer's reward."""
    missing_eos_score: Signed | None = None
    """With `penalise`: takes the place of the reward model's score of a cut answer, and of the penalty."""
    length_penalty: NonNegative = 0.0
    """Subtracted per response token."""
    repetition_penalty: NonNegative = 0.0
    """Subtracted × the share of repeated token 4-grams."""

    judges: Judges = Field(default_factory=list)
    """Scorers of the held-out responses that the policy does not learn from: any part that `rewards` takes.

    A bare name is a rule: `demo_gold` for the demo's prompts, `intact` for any (docs/rewards.md).
    """
    ptx: PtxSettings | None = None
    """Supervised rows mixed into every optimiser step."""
    trace_every: PositiveInt = 10
    """Updates between those after which every log-probability is measured once more, for `harken trace`."""

    @property
    def group_baseline(self) -> bool:
        """Whether answers to one prompt are each other's baseline, and there is no critic."""
        return self.advantage in ("rloo", "grpo")

    @property
    def whitens(self) -> bool:
        """Whether advantages are whitened."""
        return not self.group_baseline if self.whiten_advantages is None else self.whiten_advantages

    @model_validator(mode="after")
    def _consistent(self) -> PPOSettings:
        if (said := _contradiction(self)) is not None:
            raise ValueError(said)
        if self.kl_coef_min > self.kl_coef_max:
            raise ValueError("kl_coef_min is above kl_coef_max")
        if self.target_kl_per_token is not None and self.epochs * self.minibatches == 1:
            raise ValueError(
                "target_kl_per_token needs more than one optimiser step an update (epochs, minibatches)"
            )
        if self.minibatches > self.prompts_per_update * self.samples_per_prompt:
            raise ValueError("more minibatches than rollouts in an update")
        return self


class PPOTraining(Optimisation):
    """Token-level PPO against frozen rewards and a frozen reference."""

    type: Literal["ppo"]
    lr: Rate = 1e-6
    critic_lr: Rate | None = None
    """Of the value head; left out: `lr`."""
    adam_eps: Positive = 1e-5
    ppo: PPOSettings = Field(default_factory=PPOSettings)
    reward_model: RewardModelSettings | None = None
    """A reward model that Harken trained. May be left out when `rewards` has a part."""
    rewards: list[RewardPart] = Field(default_factory=list)
    """Further parts of the reward: Python functions, reward models, ensembles, classifiers, rules."""

    @property
    def random_reward(self) -> bool:
        """Whether an untrained head scores, for debugging."""
        return self.reward_model is not None and self.reward_model.random_for_debugging

    @model_validator(mode="after")
    def _rewarded(self) -> PPOTraining:
        if self.reward_model is None and not self.rewards:
            raise ValueError(
                "PPO needs a reward: name a trained reward model in reward_model.checkpoint_path, "
                "or a part in rewards (docs/rewards.md)"
            )
        if (twice := name_clash(self.rewards)) is not None:
            raise ValueError(f"two parts of the reward are called {twice}: give one of rewards another name")
        if self.reward_model is None and self.ppo.score_clip is not None:
            raise ValueError(
                "training.ppo.score_clip is for reward_model: a part of rewards takes a clip of its own"
            )
        if self.reward_model is None and self.ppo.missing_eos_score is not None:
            raise ValueError(
                "training.ppo.missing_eos_score stands for reward_model's score: use missing_eos_penalty"
            )
        if self.ppo.critic_init == "reward_model" and (self.reward_model is None or self.random_reward):
            raise ValueError(
                "training.ppo.critic_init reward_model needs training.reward_model.checkpoint_path"
            )
        return self


def _contradiction(s: PPOSettings) -> str | None:
    """The first two keys that cannot stand together, in words."""
    if s.group_baseline and s.samples_per_prompt < 2:
        return (
            f"advantage {s.advantage} compares answers to one prompt: samples_per_prompt must be at least 2"
        )
    if s.group_baseline and (s.critic != "shared" or s.critic_warmup_updates):
        return f"advantage {s.advantage} has no critic: leave critic and critic_warmup_updates out"
    if s.group_baseline and s.truncated == "bootstrap":
        return f"advantage {s.advantage} has no critic to bootstrap from: truncated is penalise or mask"
    if s.critic_init == "reward_model" and s.critic == "shared":
        return "critic_init reward_model needs a critic of its own: critic adapter or model"
    if s.kl_in == "loss" and s.kl_estimator not in ("k2", "full"):
        return f"kl_in loss with kl_estimator {s.kl_estimator} has the wrong gradient: choose k2 or full"
    if s.kl_in == "reward" and s.kl_estimator == "full":
        return "kl_estimator full in the reward does not price the token itself: choose kl_in both, or k1"
    if s.kl_in == "both" and s.kl_estimator != "full":
        return f"kl_in both would pay for {s.kl_estimator} twice: it is for kl_estimator full"
    if s.reference_update_every is not None and s.reference != "sft":
        return "reference_update_every moves the reference to the policy: it is for reference sft"
    if s.kl_control in ("linear", "cosine") and s.kl_coef_final is None:
        return f"kl_control {s.kl_control} needs kl_coef_final"
    if s.kl_coef_final is not None and s.kl_control not in ("linear", "cosine"):
        return "kl_coef_final needs kl_control linear or cosine"
    if s.missing_eos_score is not None and s.truncated != "penalise":
        return "missing_eos_score needs truncated: penalise"
    return None
