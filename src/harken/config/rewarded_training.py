"""Define the common settings of training on sampled responses: the rewards that score them."""

from __future__ import annotations

from typing import Protocol, Self

from pydantic import Field, model_validator

from harken.config.base import Signed, Strict
from harken.config.rewards import RewardPart, name_clash
from harken.config.training import Optimisation


class RewardModelSettings(Strict):
    """The trained reward model that scores the rollouts."""

    checkpoint_path: str = ""
    """The run folder of a reward model (or its `final`)."""
    model_name: str = ""
    """The base that the reward model must have been trained on; another is an error. Empty: not checked."""
    weight: Signed = 1.0
    random_for_debugging: bool = False
    """Score with an untrained head. The run is marked `random reward`."""

    @model_validator(mode="after")
    def _one_source(self) -> RewardModelSettings:
        if self.random_for_debugging == bool(self.checkpoint_path):
            raise ValueError(
                "no reward model is named. Fix: name a trained one in checkpoint_path"
                if not self.checkpoint_path
                else "checkpoint_path and random_for_debugging exclude each other. Fix: remove one of them"
            )
        return self


class ScoreSettings(Protocol):
    """The settings of sampling and scoring that only a reward model's score can have."""

    @property
    def score_clip(self) -> float | None:
        """Clip the reward model's score to ± this."""

    @property
    def missing_eos_score(self) -> float | None:
        """Replace the reward model's score of a truncated response."""


class RewardedTraining(Optimisation):
    """Training on sampled responses that a reward model, other rewards, or both score."""

    reward_model: RewardModelSettings | None = None
    """A reward model that Harken trained. Optional if `rewards` has an entry."""
    rewards: list[RewardPart] = Field(default_factory=list)
    """Further reward sources, summed by weight: Python functions, reward models, ensembles, classifiers, rules."""

    @property
    def rollout(self) -> ScoreSettings:
        """The settings of sampling and scoring; each kind of training names its own section."""
        raise NotImplementedError

    @property
    def random_reward(self) -> bool:
        """Whether an untrained head scores, for debugging."""
        return self.reward_model is not None and self.reward_model.random_for_debugging

    @model_validator(mode="after")
    def _rewarded(self) -> Self:
        if self.reward_model is None and not self.rewards:
            raise ValueError(
                "this training needs a reward. Fix: name a trained reward model in reward_model.checkpoint_path, "
                "or add an entry to rewards (docs/rewards.md)"
            )
        if (twice := name_clash(self.rewards)) is not None:
            raise ValueError(
                f"two parts of the reward are called {twice}. Fix: set another name for one of them in rewards"
            )
        if self.reward_model is None and self.rollout.score_clip is not None:
            raise ValueError("score_clip is for reward_model. Fix: set clip in the entry of rewards instead")
        if self.reward_model is None and self.rollout.missing_eos_score is not None:
            raise ValueError(
                "missing_eos_score replaces reward_model's score. Fix: remove it, or use missing_eos_penalty"
            )
        return self
