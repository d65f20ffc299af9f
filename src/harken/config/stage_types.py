"""List the types of a pipeline's stages: the configuration, output file and kind of output of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harken.config.base import Strict
from harken.config.constitution import ConstitutionConfig
from harken.config.evaluation import EvaluationConfig
from harken.config.generation import GenerationConfig, PairsConfig, ScoringConfig
from harken.config.labelling import LabelConfig
from harken.config.pipeline import ReportStage
from harken.config.review import HardNegativesConfig, ReviewConfig
from harken.config.run import RunConfig

OutputKind = Literal["policy", "reward model", "table", "page"]
"""A table is a file of rows: prompts, responses, pairs."""


@dataclass(frozen=True)
class StageType:
    """Describe a type of stage."""

    config: type[Strict]
    """Its keys. Those that the pipeline has too (`model_name`, `seed`, …) default to the pipeline's."""
    output: str
    """The file or folder, in the stage's folder, that `@name` refers to (`output_name`). It exists when the stage is
    finished."""
    gives: OutputKind
    title: str
    """Its description, for the terminal and the page."""


STAGE_TYPES: dict[str, StageType] = {
    "sft": StageType(RunConfig, "final", "policy", "supervised fine-tuning"),
    "reward": StageType(RunConfig, "final", "reward model", "reward model"),
    "classifier": StageType(RunConfig, "final", "reward model", "classifier of responses"),
    "ppo": StageType(RunConfig, "final", "policy", "PPO"),
    "dpo": StageType(RunConfig, "final", "policy", "preference optimisation (DPO)"),
    "online_dpo": StageType(RunConfig, "final", "policy", "online DPO"),
    "generate": StageType(GenerationConfig, "responses.parquet", "table", "responses"),
    "score": StageType(ScoringConfig, "responses.parquet", "table", "scores of responses"),
    "pairs": StageType(PairsConfig, "pairs.jsonl", "table", "pairs of responses"),
    "label": StageType(LabelConfig, "pairs.jsonl", "table", "pairs labelled by a judge"),
    "constitution": StageType(ConstitutionConfig, "pairs.jsonl", "table", "critiques and revisions"),
    "review": StageType(ReviewConfig, "pairs.jsonl", "table", "review by people"),
    "hard_negatives": StageType(HardNegativesConfig, "pairs.jsonl", "table", "pairs of failures"),
    "evaluation": StageType(EvaluationConfig, "responses.parquet", "table", "evaluation"),
    "report": StageType(ReportStage, "report.html", "page", "report"),
}
"""A training stage's type is its `training.type`. What runs a stage is chosen by its configuration
(`pipeline.run.RUNNERS`), so a further type of training run needs only its line here."""


def output_name(type_name: str, config: Strict) -> str:
    """Return the file or folder, in its folder, that `@name` refers to."""
    if isinstance(config, PairsConfig) and config.how == "best":
        return "demonstrations.jsonl"
    if isinstance(config, ConstitutionConfig) and config.gives == "demonstrations":
        return "demonstrations.jsonl"
    return STAGE_TYPES[type_name].output
