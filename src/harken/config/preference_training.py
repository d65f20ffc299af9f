"""Define the configurations of training on preferences without a reward model: DPO and its relatives, online DPO."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from harken.config.base import (
    Count,
    Fraction,
    NonNegative,
    Positive,
    PositiveInt,
    Rate,
    Size,
    Strict,
    Temperature,
)
from harken.config.ppo import OverlongSettings
from harken.config.rewarded_training import RewardedTraining
from harken.config.rewards import Judges
from harken.config.training import Optimisation

PreferenceLossName = Literal["dpo", "robust", "ipo", "hinge", "simpo", "orpo", "kto"]

DEFAULT_BETA: dict[PreferenceLossName, float] = {
    "dpo": 0.1,
    "robust": 0.1,
    "ipo": 0.1,
    "hinge": 0.1,
    "simpo": 2.0,
    "orpo": 0.1,
    "kto": 0.1,
}
DEFAULT_SIMPO_GAMMA = 1.0


class PreferenceLossSettings(Strict):
    """The loss of a pair of responses, or of a single response with a thumb (docs/preference_optimisation.md)."""

    loss: PreferenceLossName = "dpo"
    """dpo, robust (noisy labels), ipo, hinge, kto (single responses); simpo and orpo, which need no reference."""
    beta: Positive | None = None
    """Strength of the loss: reward = beta × log-ratio to the reference. A larger beta stays closer to the reference.

    simpo: the coefficient of the average log-probability; orpo: the weight of the odds ratio. Default: 0.1; simpo 2.0.
    """
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Probability that a label is flipped: with `dpo` conservative DPO, with `robust` the unbiased loss."""
    simpo_gamma: NonNegative | None = None
    """simpo: the margin by which beta × average log-probability has to differ. Default: 1.0."""
    length_normalise: bool | None = None
    """Average log-probabilities over tokens instead of summing them. Default: only for ipo, simpo and orpo."""
    ld_alpha: Fraction = 1.0
    """Weight of a response's tokens beyond the length of the pair's other response. Below 1: less length bias."""
    nll_coef: NonNegative = 0.0
    """Weight of the chosen response's mean negative log-likelihood per token, added so that it stays likely."""
    desirable_weight: Positive = 1.0
    """kto: weight of the responses with a thumb up."""
    undesirable_weight: Positive = 1.0
    """kto: weight of the responses with a thumb down."""

    @property
    def strength(self) -> float:
        """The value of `beta` that is used."""
        return DEFAULT_BETA[self.loss] if self.beta is None else self.beta

    @property
    def margin(self) -> float:
        """The value of `simpo_gamma` that is used."""
        return DEFAULT_SIMPO_GAMMA if self.simpo_gamma is None else self.simpo_gamma

    @property
    def averages(self) -> bool:
        """Whether a response's score is an average over its tokens."""
        if self.length_normalise is None:
            return self.loss in ("ipo", "simpo", "orpo")
        return self.length_normalise

    @property
    def needs_reference(self) -> bool:
        """Whether the loss compares the policy with its reference."""
        return self.loss not in ("simpo", "orpo")

    @model_validator(mode="after")
    def _consistent_loss(self) -> PreferenceLossSettings:
        if (problem := _loss_contradiction(self)) is not None:
            raise ValueError(problem)
        return self


class DPOSettings(PreferenceLossSettings):
    """Preference optimisation on pairs, and its held-out evaluation."""

    ties: Literal["soft", "drop"] = "soft"
    """soft: both orders of a tie count half. drop: ties are removed. For kto ties are always removed."""
    selection: Literal["loss", "accuracy"] = "loss"
    """Metric that selects the best checkpoint on the held-out rows: the lowest loss, or the highest accuracy."""
    eval_prompts: Count = 32
    """Number of held-out prompts to which a response is sampled at each held-out evaluation, for KL and length. 0:
    none."""
    max_gen_len: Size = 64
    """Maximum tokens of these responses."""


class DPOTraining(Optimisation):
    """Direct preference optimisation on pairs of responses."""

    type: Literal["dpo"]
    lr: Rate = 1e-5
    batch_size: Size = 16
    """Pairs per optimiser step; for kto responses."""
    epochs: Size = 1
    max_steps: PositiveInt | None = None
    dpo: DPOSettings = Field(default_factory=DPOSettings)


class OnlineDPOSettings(PreferenceLossSettings):
    """Preference optimisation on the policy's own responses, ranked by the reward."""

    updates: PositiveInt = 100
    prompts_per_update: Size = 16
    samples_per_prompt: Annotated[int, Field(ge=2, le=10**6)] = 4
    """Responses to each prompt; the best is paired with the worst. Prompts whose responses all tie are left out."""
    max_gen_len: Size = 64
    temperature: Temperature = 1.0
    """Temperature of sampling, and of every log-probability."""
    score_clip: Positive | None = None
    """Clip the reward model's score to ± this, before penalties."""
    missing_eos_penalty: NonNegative = 1.0
    """Subtracted from the reward of a truncated response."""
    missing_eos_score: float | None = Field(default=None, ge=-1e9, le=1e9)
    """Replaces the reward model's score of a truncated response, and the penalty."""
    length_penalty: NonNegative = 0.0
    """Subtracted per response token."""
    repetition_penalty: NonNegative = 0.0
    """Times the fraction of repeated token 4-grams, subtracted."""
    overlong: OverlongSettings | None = None
    """DAPO's soft overlong penalty (arXiv:2503.14476, eq. 13)."""
    kl_budget: Positive | None = None
    """A checkpoint whose KL from the reference exceeds this, in nats per sequence, is not eligible as the best."""
    judges: Judges = Field(default_factory=list)
    """Scorers of the held-out responses; the policy is not trained on them. Any entry that `rewards` accepts."""

    @property
    def truncated(self) -> Literal["penalise"]:
        """Treatment of truncated responses: they are penalised."""
        return "penalise"

    @model_validator(mode="after")
    def _buffer_fits(self) -> OnlineDPOSettings:
        if self.overlong is not None and self.overlong.buffer > self.max_gen_len:
            raise ValueError(
                "overlong.buffer is longer than a response. Fix: lower overlong.buffer to at most max_gen_len"
            )
        return self


class OnlineDPOTraining(RewardedTraining):
    """Online DPO: sample, rank by the reward, train on best against worst."""

    type: Literal["online_dpo"]
    lr: Rate = 5e-6
    lr_schedule: Literal["constant", "linear", "cosine"] = "constant"
    online_dpo: OnlineDPOSettings = Field(default_factory=OnlineDPOSettings)

    @property
    def rollout(self) -> OnlineDPOSettings:
        """The settings of sampling and scoring."""
        return self.online_dpo


def _loss_contradiction(s: PreferenceLossSettings) -> str | None:
    """Describe a setting of one loss that is set for another; None if there is none."""
    if s.label_smoothing > 0 and s.loss not in ("dpo", "robust"):
        return f"label_smoothing is for dpo and robust, not for {s.loss}. Fix: remove it, or set loss: dpo"
    if s.loss == "robust" and s.label_smoothing == 0:
        return "robust needs the share of flipped labels. Fix: set label_smoothing to it, for example 0.1"
    if s.simpo_gamma is not None and s.loss != "simpo":
        return f"simpo_gamma is for simpo, not for {s.loss}. Fix: remove it"
    if s.length_normalise is False and not s.needs_reference:
        return f"{s.loss} is defined on average log-probabilities. Fix: remove length_normalise"
    if s.ld_alpha < 1 and s.averages:
        return "ld_alpha weights tokens of a sum, not of an average. Fix: remove ld_alpha or length_normalise"
    if s.ld_alpha < 1 and s.loss == "kto":
        return (
            "ld_alpha compares the two lengths of a pair, and kto has single responses. Fix: remove ld_alpha"
        )
    if s.nll_coef > 0 and s.loss in ("orpo", "kto"):
        reason = "orpo includes it with weight 1" if s.loss == "orpo" else "kto has no chosen response"
        return f"nll_coef is not for {s.loss}: {reason}. Fix: remove it"
    weighted = (s.desirable_weight, s.undesirable_weight) != (1.0, 1.0)
    if weighted and s.loss != "kto":
        return f"desirable_weight and undesirable_weight are for kto, not for {s.loss}. Fix: remove them"
    return None
