"""Frozen, strict configuration models. `config.files` reads them from YAML and `--set`.

Every field is read somewhere, every preset loads, and an unknown key is an error. The docstring under a field is its
documentation.
"""

from harken.config.base import DataConfig, Strict
from harken.config.evaluation import EvaluationConfig
from harken.config.generation import GenerationConfig, PairsConfig, ScoringConfig
from harken.config.pipeline import PipelineConfig
from harken.config.review import HardNegativesConfig, ReviewConfig
from harken.config.run import (
    CheckpointSettings,
    HealthSettings,
    LoraSettings,
    RunConfig,
    Training,
    WeightDtypeName,
)
from harken.config.sycophancy import SycophancyConfig

__all__ = [
    "CheckpointSettings",
    "DataConfig",
    "EvaluationConfig",
    "GenerationConfig",
    "HardNegativesConfig",
    "HealthSettings",
    "LoraSettings",
    "PairsConfig",
    "PipelineConfig",
    "ReviewConfig",
    "RunConfig",
    "ScoringConfig",
    "Strict",
    "SycophancyConfig",
    "Training",
    "WeightDtypeName",
]
