"""Define the configuration of a pipeline."""

from __future__ import annotations

from pydantic import Field

from harken.config.audit import AuditSettings
from harken.config.base import Count, DataConfig, NonNegative, Seed, Size, Strict
from harken.config.card import GateSettings
from harken.config.rewards import Judges
from harken.config.run import CheckpointSettings, HealthSettings, LoraSettings, WeightDtypeName


class StageOverrides(Strict):
    """A training stage of a pipeline: the keys of a run, without those that the pipeline sets."""

    data: DataConfig
    lora: LoraSettings | None = LoraSettings()
    training: dict[str, object]
    health: HealthSettings = HealthSettings()
    checkpoints: CheckpointSettings = CheckpointSettings()

    def run_settings(self) -> dict[str, object]:
        """Return the keys that are a run's."""
        return self.model_dump(exclude={"gate"})


class RewardStageOverrides(StageOverrides):
    """The reward stage of a pipeline, with the gate between it and PPO."""

    gate: GateSettings | None = None
    """What the reward model's card must show before PPO starts; null: PPO starts in any case."""


class EvaluationStage(Strict):
    """The evaluation of a pipeline: the keys of an evaluation, without those that the pipeline sets."""

    data: DataConfig
    judges: Judges = Field(default_factory=list)
    samples: Size | None = None
    max_gen_len: Size = 64
    temperature: NonNegative = 0.0
    budgets: list[Size] = Field(default_factory=list)
    slices: list[str] = Field(default_factory=list)
    cluster_by: str | None = None
    tie_epsilon: NonNegative = 0.0
    batch_sensitivity: Count = 0
    audit: AuditSettings = AuditSettings()


class PipelineConfig(Strict):
    """SFT → reward model → PPO → evaluation → report; each stage uses the results of those before it."""

    name: str
    title: str = ""
    """Title of the report."""
    notice: str = ""
    """Printed, and shown in the report: for example that the data are synthetic."""
    model_name: str = "embedded"
    output_dir: str | None = None
    seed: Seed = 839
    device: str = "auto"
    dtype: WeightDtypeName = "bfloat16"
    tensorboard: bool = True
    sft: StageOverrides
    reward: RewardStageOverrides
    ppo: StageOverrides
    evaluation: EvaluationStage
