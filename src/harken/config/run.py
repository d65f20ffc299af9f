"""Configuration of one training run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from harken.config.base import (
    DataConfig,
    Fraction,
    Positive,
    PositiveInt,
    Rank,
    Seed,
    Strict,
)
from harken.config.ppo import PPOTraining
from harken.config.training import RewardTraining, SupervisedTraining


class LoraSettings(Strict):
    """The low-rank adapter that is trained in place of the whole model."""

    rank: Rank = 16
    alpha: Positive = 32.0
    dropout: Fraction = 0.0
    """Used in supervised and reward-model training only: PPO refuses anything but 0."""
    target_modules: list[str] | None = None
    """Left out: the attention and MLP projections of the model's family."""
    experts: bool = False
    """Adapt the fused experts of a mixture-of-experts model too: `rank` for each. Needs memory for a copy of them."""

    @model_validator(mode="after")
    def _no_dropout_on_experts(self) -> LoraSettings:
        if self.experts and self.dropout > 0:
            raise ValueError("lora.experts needs lora.dropout = 0: peft adapts experts without dropout")
        return self


class HealthSettings(Strict):
    """When a run is called ill, and when it ends for it. docs/health.md lists every finding with its threshold."""

    stop_on: list[str] = Field(default_factory=list)
    """Findings that end the run when unhealthy, for example `kl_explosion`. `harken doctor` knows the names."""


class CheckpointSettings(Strict):
    """How often state is kept."""

    every: PositiveInt = 50
    """Steps between checkpoints; the last step always gets one."""
    minutes: Positive | None = 5.0
    """One more when so long has passed since the last: a kill costs this and a step at most. None: by steps alone."""
    keep: PositiveInt = 2
    """How many of the newest stay on disk."""


WeightDtypeName = Literal["float32", "bfloat16", "int8", "nf4"]

Training = Annotated[SupervisedTraining | RewardTraining | PPOTraining, Field(discriminator="type")]


class RunConfig(Strict):
    """One training stage."""

    model_name: str = "embedded"
    """A hub name, a model folder, a run folder, a GGUF file, or `embedded` (SmolLM2-135M-Instruct)."""
    output_dir: str | None = None
    seed: Seed = 839
    device: str = "auto"
    """`auto` takes CUDA where there is one, else the CPU."""
    dtype: WeightDtypeName = "bfloat16"
    """Of frozen weights and activations; int8 and nf4: layers of a frozen base in 8 or 4 bits (package bitsandbytes),
    and activations in bfloat16. What is trained is always float32."""
    data: DataConfig
    lora: LoraSettings | None = LoraSettings()
    """null: train every weight of the model (SFT and PPO)."""
    training: Training
    health: HealthSettings = HealthSettings()
    checkpoints: CheckpointSettings = CheckpointSettings()
    tensorboard: bool = True

    @model_validator(mode="after")
    def _a_reward_model_is_an_adapter(self) -> RunConfig:
        if self.training.type == "reward" and self.lora is None:
            raise ValueError("a reward model is trained as an adapter: lora cannot be null")
        return self

    @model_validator(mode="after")
    def _a_quantised_base_stays_frozen(self) -> RunConfig:
        if self.dtype in ("int8", "nf4") and self.lora is None:
            raise ValueError(f"dtype {self.dtype} keeps a frozen base: lora cannot be null")
        return self

    @model_validator(mode="after")
    def _no_dropout_under_ppo(self) -> RunConfig:
        if self.training.type == "ppo" and self.lora and self.lora.dropout > 0:
            raise ValueError(
                "PPO needs lora.dropout = 0: the policy that samples must be the policy that is scored"
            )
        return self
