"""Define the configuration of one training run."""

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
from harken.config.preference_training import DPOTraining, OnlineDPOTraining
from harken.config.trackers import TrackerSettings
from harken.config.training import ClassifierTraining, RewardTraining, SupervisedTraining


class LoraSettings(Strict):
    """The low-rank adapter (LoRA) that is trained instead of the whole model."""

    rank: Rank = 16
    alpha: Positive = 32.0
    dropout: Fraction = 0.0
    """Not for PPO and online DPO, which train the policy that they sample from."""
    target_modules: list[str] | None = None
    """Default: the attention and MLP projections of the model's family."""
    experts: bool = False
    """Also adapt the fused experts of a mixture-of-experts model, each with `rank`. Needs memory for a copy of them."""

    @model_validator(mode="after")
    def _no_dropout_on_experts(self) -> LoraSettings:
        if self.experts and self.dropout > 0:
            raise ValueError("peft adapts experts without dropout. Fix: set lora.dropout: 0")
        return self


class HealthSettings(Strict):
    """When an unhealthy run ends. docs/health.md lists every finding with its threshold."""

    stop_on: list[str] = Field(default_factory=list)
    """Findings that end the run once unhealthy, for example `kl_explosion` (docs/health.md lists the names)."""


class CheckpointSettings(Strict):
    """When checkpoints are saved, and how many are kept."""

    every: PositiveInt = 50
    """Steps between checkpoints; the last step always has one."""
    minutes: Positive | None = 5.0
    """Also save a checkpoint this many minutes after the last, so a kill loses at most this and a step. null: off."""
    keep: PositiveInt = 2
    """Number of newest checkpoints that are kept."""


WeightDtypeName = Literal["float32", "bfloat16", "int8", "nf4"]

Training = Annotated[
    SupervisedTraining | RewardTraining | ClassifierTraining | PPOTraining | DPOTraining | OnlineDPOTraining,
    Field(discriminator="type"),
]


class RunConfig(Strict):
    """One training stage."""

    model_name: str = "embedded"
    """A hub name, a model folder, a run folder, a GGUF file, or `embedded` (SmolLM2-135M-Instruct)."""
    output_dir: str | None = None
    seed: Seed = 839
    device: str = "auto"
    """`auto`: CUDA if available, else the CPU."""
    dtype: WeightDtypeName = "bfloat16"
    """Dtype of frozen weights and activations. int8, nf4: the frozen base's layers in 8 or 4 bits (bitsandbytes), with
    activations in bfloat16. Trained weights are always float32."""
    data: DataConfig
    lora: LoraSettings | None = LoraSettings()
    """null: train every weight of the model."""
    training: Training
    health: HealthSettings = HealthSettings()
    checkpoints: CheckpointSettings = CheckpointSettings()
    tensorboard: bool = True
    trackers: TrackerSettings = TrackerSettings()

    @model_validator(mode="after")
    def _quantised_base_is_frozen(self) -> RunConfig:
        if self.dtype in ("int8", "nf4") and self.lora is None:
            raise ValueError(
                f"dtype {self.dtype} needs a frozen base, so lora cannot be null. Fix: set lora, or dtype: bfloat16"
            )
        return self

    @model_validator(mode="after")
    def _no_dropout_under_ppo(self) -> RunConfig:
        name = {"ppo": "PPO", "online_dpo": "online DPO"}.get(self.training.type)
        if name is not None and self.lora and self.lora.dropout > 0:
            raise ValueError(
                f"{name} trains the policy that it samples from, without dropout. Fix: set lora.dropout: 0"
            )
        return self
