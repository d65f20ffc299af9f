"""Define the configuration of an evaluation."""

from __future__ import annotations

from pydantic import Field, model_validator

from harken.config.base import DataConfig, NonNegative, Seed, Size, Strict
from harken.config.rewards import Judges
from harken.config.run import WeightDtypeName


class EvaluationConfig(Strict):
    """N policies respond once to the same held-out prompts; one reward model and any judges score all responses."""

    policies: dict[str, str]
    """Name → model (anything `model_name` accepts). The first is the report's baseline."""
    reward_model: str
    """The run folder of the reward model that scores every policy."""
    judges: Judges = Field(default_factory=list)
    """Further scorers: any entry that `training.rewards` accepts, or just the name of a rule.

    The verdict reports the first.
    """
    data: DataConfig
    max_gen_len: Size = 64
    temperature: NonNegative = 0.0
    """0: greedy decoding."""
    tie_epsilon: NonNegative = 0.0
    """Rewards that differ by at most this are a tie."""
    output_dir: str | None = None
    seed: Seed = 839
    device: str = "auto"
    dtype: WeightDtypeName = "bfloat16"

    @model_validator(mode="after")
    def _held_out_alone(self) -> EvaluationConfig:
        data = self.data
        if data.eval_path or data.eval_split or data.eval_fraction or data.eval_limit:
            raise ValueError(
                "an evaluation reads data.path and data.split; the keys eval_* are for training. "
                "Fix: remove eval_path, eval_split, eval_fraction and eval_limit"
            )
        return self
