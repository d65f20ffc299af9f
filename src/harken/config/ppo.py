"""Define the configuration of PPO."""

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
from harken.config.rewarded_training import RewardedTraining
from harken.config.rewards import Judges


class PtxSettings(Strict):
    """PPO-ptx: a supervised loss added to PPO's, against forgetting (arXiv:2203.02155)."""

    data: DataConfig
    """Demonstrations, or preferences (their chosen responses are used)."""
    coef: Positive = 0.5
    """Weight of the mean negative log-likelihood per token that is added to PPO's loss."""
    batch_size: Size = 16
    """Rows per optimiser step."""


class OverlongSettings(Strict):
    """DAPO's soft overlong penalty (arXiv:2503.14476, eq. 13)."""

    buffer: Size
    """Response tokens before `max_gen_len` over which the penalty grows from 0 to its full size."""
    penalty: Positive = 1.0
    """Subtracted from the reward of a response of `max_gen_len` tokens."""


class PPOSettings(Strict):
    """Proximal policy optimisation over tokens, with KL control. Defaults follow arXiv:2403.17031 where it has one."""

    updates: PositiveInt = 100
    prompts_per_update: Size = 32
    samples_per_prompt: Size = 1
    epochs: Size = 4
    """Passes over each rollout batch."""
    minibatches: Size = 1
    """Optimiser steps per pass."""
    max_gen_len: Size = 64
    temperature: Temperature = 1.0
    """Temperature of sampling, and of every log-probability."""
    clip_range: Positive = 0.2
    clip_range_high: Positive | None = None
    """Upper clip, if it differs: ratios are clipped to 1 − clip_range … 1 + clip_range_high."""
    value_clip_range: Positive | None = 0.2
    """null: the value loss is not clipped."""
    vf_coef: NonNegative = 0.1
    entropy_coef: NonNegative = 0.0
    gamma: Fraction = 1.0
    lam: Fraction = 0.95
    advantage: Literal["gae", "reward_minus_value", "rloo", "grpo", "reinforce_plus_plus_baseline"] = "gae"
    """gae: per token. reward_minus_value: return − V(prompt). Without a critic: rloo, return − mean of the prompt's
    other responses; grpo and reinforce_plus_plus_baseline, return − mean of all of them (docs/group_methods.md)."""
    whiten_advantages: bool | None = None
    """Default: true with a critic and with reinforce_plus_plus_baseline, false with rloo and grpo."""
    scale_rewards: Literal["group", "batch", "none"] | None = None
    """Divide group advantages by the standard deviation of the returns of the group, of the batch, or by nothing.
    Default: group with grpo, else none."""
    drop_uniform_groups: bool = False
    """Leave groups whose rewards are all equal out of the loss (DAPO). They are not replaced by new samples."""
    loss_aggregation: Literal["token", "sequence", "constant"] = "token"
    """Average the policy loss over tokens; over each response's tokens, then over responses; or divide its sum by
    responses × max_gen_len (Dr. GRPO)."""
    importance_sampling_level: Literal["token", "sequence"] = "token"
    """Ratio of each token, or the geometric mean of a response's token ratios (GSPO)."""
    critic: Literal["shared", "adapter", "model"] = "shared"
    """The value head reads hidden states of the policy, of a separate adapter, or of a separate model."""
    critic_init: Literal["zero", "reward_model"] = "zero"
    """A separate critic starts from the policy's base with a zero head, or from the reward model."""
    critic_warmup_updates: Count = 0
    """At most this many updates at the start train only the critic …"""
    critic_warmup_until: float = Field(default=0.3, ge=-1e9, le=1)
    """… until its explained variance reaches this."""
    reference: str = "sft"
    """The KL's reference: `sft` (the model PPO starts from), `base` (the model SFT started from), or any model."""
    reference_update_every: PositiveInt | None = None
    """Copy the policy into the reference every this many updates. null: never."""
    kl_estimator: Literal["k1", "abs", "k2", "k3", "full"] = "k1"
    """Per token, with Δ = log π − log π_ref: Δ, |Δ|, Δ²/2, exp(−Δ)−1+Δ, or the exact sum over the vocabulary."""
    kl_in: Literal["reward", "loss", "both"] = "reward"
    """Where the KL penalty is applied: in each token's reward; as kl_coef × KL in the loss (k2, full); or, for `full`,
    in both: the loss penalises the token itself, the reward the states that follow."""
    kl_coef: NonNegative = 0.1
    kl_coef_final: NonNegative | None = None
    """With kl_control linear or cosine: the coefficient of the last update."""
    kl_control: Literal["fixed", "adaptive", "linear", "cosine"] = "fixed"
    kl_target: Positive = 6.0
    """Adaptive control: the target KL from the reference, in nats per sequence."""
    kl_horizon: Positive = 10_000.0
    """Adaptive control: number of sequences in which the coefficient changes by at most about a fifth."""
    kl_coef_min: NonNegative = 0.001
    kl_coef_max: Positive = 10.0
    kl_budget: Positive | None = None
    """End the run once the KL of an update's rollouts from the reference exceeds this, in nats per sequence."""
    update_kl_limit: Positive | None = None
    """Roll back an update whose KL(old‖new), measured after it, exceeds this, in nats per sequence."""
    target_kl_per_token: Positive | None = None
    """Skip an update's remaining optimiser steps once KL(old‖new) exceeds this, in nats per token.

    Measured on each step's minibatch before that step, so it needs more than one optimiser step per update.
    """
    score_clip: Positive | None = None
    """Clip the reward model's score to ± this, before penalties."""
    truncated: Literal["penalise", "bootstrap", "mask"] = "penalise"
    """Responses truncated at max_gen_len: subtract a penalty; replace their score by the value of their last state; or
    leave them out of the loss."""
    missing_eos_penalty: NonNegative = 1.0
    """With `penalise`: subtracted from the reward of a truncated response."""
    missing_eos_score: Signed | None = None
    """With `penalise`: replaces the reward model's score of a truncated response, and the penalty."""
    length_penalty: NonNegative = 0.0
    """Subtracted per response token."""
    repetition_penalty: NonNegative = 0.0
    """Times the fraction of repeated token 4-grams, subtracted."""
    overlong: OverlongSettings | None = None
    """A penalty that grows over the last tokens before `max_gen_len`. null: none."""

    judges: Judges = Field(default_factory=list)
    """Scorers of the held-out responses; the policy is not trained on them. Any entry that `rewards` accepts.

    A name alone is a rule: `demo_gold` for the demo's prompts, `intact` for any (docs/rewards.md).
    """
    ptx: PtxSettings | None = None
    """Demonstrations whose loss is added to every optimiser step."""
    trace_every: PositiveInt = 10
    """Every this many updates, log-probabilities are also computed after the update, for `harken trace`."""

    @property
    def group_baseline(self) -> bool:
        """Whether the responses to one prompt are each other's baseline, without a critic."""
        return self.advantage in ("rloo", "grpo", "reinforce_plus_plus_baseline")

    @property
    def whitens(self) -> bool:
        """Whether advantages are whitened."""
        if self.whiten_advantages is not None:
            return self.whiten_advantages
        return self.advantage not in ("rloo", "grpo")

    @property
    def reward_scale(self) -> Literal["group", "batch", "none"]:
        """Divisor of the advantages of a group: `scale_rewards`, or its default for this `advantage`."""
        return self.scale_rewards or ("group" if self.advantage == "grpo" else "none")

    @model_validator(mode="after")
    def _consistent(self) -> PPOSettings:
        if (problem := _contradiction(self)) is not None:
            raise ValueError(problem)
        if self.kl_coef_min > self.kl_coef_max:
            raise ValueError("kl_coef_min is above kl_coef_max. Fix: lower kl_coef_min")
        if self.target_kl_per_token is not None and self.epochs * self.minibatches == 1:
            raise ValueError(
                "target_kl_per_token needs more than one optimiser step per update. Fix: raise epochs or minibatches"
            )
        if self.minibatches > self.prompts_per_update * self.samples_per_prompt:
            raise ValueError(
                "an update has more minibatches than rollouts. Fix: lower minibatches, or raise prompts_per_update"
            )
        return self


class PPOTraining(RewardedTraining):
    """Token-level PPO against frozen rewards and a frozen reference."""

    type: Literal["ppo"]
    lr: Rate = 1e-6
    critic_lr: Rate | None = None
    """Learning rate of the critic. Default: `lr`."""
    adam_eps: Positive = 1e-5
    ppo: PPOSettings = Field(default_factory=PPOSettings)

    @property
    def rollout(self) -> PPOSettings:
        """The settings of sampling and scoring."""
        return self.ppo

    @model_validator(mode="after")
    def _critic_has_a_model(self) -> PPOTraining:
        if self.ppo.critic_init == "reward_model" and (self.reward_model is None or self.random_reward):
            raise ValueError(
                "training.ppo.critic_init reward_model needs a trained reward model. "
                "Fix: set training.reward_model.checkpoint_path"
            )
        return self


def _group_contradiction(s: PPOSettings) -> str | None:
    """Describe the first two keys of group methods that contradict each other, and the fix; None if none do."""
    if s.scale_rewards is not None and not s.group_baseline:
        return f"scale_rewards divides group advantages, and {s.advantage} has no groups. Fix: set advantage: grpo"
    if s.scale_rewards == "batch" and s.whitens:
        return "scale_rewards batch repeats whitening. Fix: remove scale_rewards, or set whiten_advantages: false"
    if s.drop_uniform_groups and not s.group_baseline:
        return (
            f"drop_uniform_groups needs groups, and {s.advantage} has none. Fix: set advantage: grpo or rloo"
        )
    if s.overlong is not None and s.overlong.buffer > s.max_gen_len:
        return "overlong.buffer is longer than a response. Fix: lower overlong.buffer to at most max_gen_len"
    return None


def _contradiction(s: PPOSettings) -> str | None:
    """Describe the first two keys that contradict each other, and the fix; None if none do."""
    if (problem := _group_contradiction(s)) is not None:
        return problem
    if s.group_baseline and s.samples_per_prompt < 2:
        return f"advantage {s.advantage} compares responses to one prompt. Fix: set samples_per_prompt to 2 or more"
    if s.group_baseline and (s.critic != "shared" or s.critic_warmup_updates):
        return f"advantage {s.advantage} has no critic. Fix: remove critic and critic_warmup_updates"
    if s.group_baseline and s.truncated == "bootstrap":
        return (
            f"advantage {s.advantage} has no critic to bootstrap from. Fix: set truncated to penalise or mask"
        )
    if s.critic_init == "reward_model" and s.critic == "shared":
        return "critic_init reward_model needs a separate critic. Fix: set critic to adapter or model"
    if s.kl_in == "loss" and s.kl_estimator not in ("k2", "full"):
        return f"kl_in loss with kl_estimator {s.kl_estimator} has the wrong gradient. Fix: set k2 or full"
    if s.kl_in == "reward" and s.kl_estimator == "full":
        return (
            "kl_estimator full in the reward does not penalise the token itself. Fix: set kl_in: both, or k1"
        )
    if s.kl_in == "both" and s.kl_estimator != "full":
        return f"kl_in both would count {s.kl_estimator} twice. Fix: set kl_estimator: full"
    if s.reference_update_every is not None and s.reference != "sft":
        return "reference_update_every copies the policy into the reference. Fix: set reference: sft"
    if s.kl_control in ("linear", "cosine") and s.kl_coef_final is None:
        return f"kl_control {s.kl_control} has no final coefficient. Fix: set kl_coef_final"
    if s.kl_coef_final is not None and s.kl_control not in ("linear", "cosine"):
        return "kl_coef_final is for a schedule. Fix: set kl_control: linear or cosine"
    if s.missing_eos_score is not None and s.truncated != "penalise":
        return "missing_eos_score replaces a penalty. Fix: set truncated: penalise"
    return None
