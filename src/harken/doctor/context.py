"""Build the objects that a stage's checks share: settings, tokenizer, rows, model and one small update by its own code.

Everything is built on first access and cached. Files are written only into `scratch`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from harken.batches import TokenBatch, collate
from harken.config import RunConfig
from harken.config.base import DataConfig
from harken.config.rewards import RewardPart
from harken.config.training import ClassifierTraining, HeadTraining, SupervisedTraining
from harken.data import sources
from harken.data.chat import Renderer, RenderFailure
from harken.data.report import DataReport
from harken.doctor.cached import cached
from harken.errors import UserError
from harken.health.limits import Limits, limits_for
from harken.health.rule import TrainingType
from harken.models.adapted_model import AdaptedModel
from harken.models.backbone import Backbone
from harken.models.device import choose_device
from harken.models.find_tokenizer import renderer_of
from harken.models.quantised import WEIGHT_DTYPES
from harken.models.resolve import ModelSource, Use, require_use, resolve
from harken.models.reward_base import load_reward_base
from harken.models.roles import fingerprint_tensors
from harken.records import Demonstration, Preference, Prompt, TokenDemonstration, TokenPair
from harken.run import checksums, config_lock
from harken.run.folder import RunFolder
from harken.seeds import permutation
from harken.train.classifier import ClassifierStage
from harken.train.head_stage import HeadStage
from harken.train.reward_model import RewardStage
from harken.train.sft import SupervisedStage

ParsedRow = Demonstration | Preference | TokenPair | Prompt

FEW = 4
"""Rows of the small update."""
ROW_TOKENS = 160
"""The small update prefers rows up to this long, so that a check does not take minutes."""
SPLIT_TOKENS = 1_000_000
"""Token budget that keeps everything in one micro-batch."""


@dataclass(frozen=True)
class PipelineInfo:
    """Describe the other stages of the pipeline: their data, and which models replace missing ones."""

    demonstrations: DataConfig | None = None
    """Demonstrations of the SFT stage."""
    pairs: DataConfig | None = None
    """Preferences of the reward stage."""
    evaluation_data: DataConfig | None = None
    """Prompts of the evaluation."""
    sft_missing: str = ""
    """Why the base model replaces the fine-tuned one; "" when it does not."""
    reward_model_missing: str = ""
    """Why an untrained head replaces the reward model; "" when it does not."""
    judges: tuple[RewardPart, ...] = ()
    """Judges of the evaluation."""
    sft_before: bool = False
    """Whether the pipeline runs SFT before this stage."""


@dataclass(frozen=True)
class DataSample:
    """A stage's rows as its loader returns them, with the data reports."""

    train: Sequence[ParsedRow]
    held_out: Sequence[ParsedRow]
    reports: Sequence[DataReport]


@dataclass(frozen=True)
class Update:
    """The result of one optimiser step by the stage's own code on a few rows."""

    metrics: dict[str, float]
    changed: int
    compared: int
    """Trainable tensors that were compared; `changed` of them differ."""
    changed_frozen: list[str]
    """Components whose frozen weights changed."""


class Context:
    """Build one stage from its configuration."""

    def __init__(
        self, config: RunConfig, output: Path, scratch: Path, pipeline: PipelineInfo | None = None
    ) -> None:
        self.config, self.output, self.scratch = config, output, RunFolder(scratch)
        self.pipeline = pipeline or PipelineInfo()

    @property
    def kind(self) -> TrainingType:
        """The type of training."""
        return self.config.training.type

    @property
    def limits(self) -> Limits:
        """The health monitor's limits for the compute dtype."""
        return limits_for(self.config.dtype)

    # -- data --------------------------------------------------------------------------------------

    @cached
    def source(self) -> ModelSource:
        """The model that training starts from."""
        use: Use = "reward_base" if isinstance(self.config.training, HeadTraining) else "policy"
        return require_use(resolve(self.config.model_name), use)

    @cached
    def renderer(self) -> Renderer:
        """Its tokenizer and chat template."""
        return renderer_of(self.source, self.config.data.keep_special_tokens)

    @cached
    def rows(self) -> DataSample:
        """The rows that the stage reads."""
        return read_stage_rows(self.config.data, self.kind, self.config.seed)

    @cached
    def sample(self) -> list[ParsedRow]:
        """At most `SAMPLE` training rows, drawn with the seed."""
        order = permutation(len(self.rows.train), self.config.seed, "doctor", "sample")
        return [self.rows.train[i] for i in order[: sources.SAMPLE_ROWS]]

    @cached
    def fitting_rows(self) -> list[Any]:
        """The rows of the sample that fit `data.max_length`, as tokens (SFT and reward models) or unchanged (PPO).

        Short rows come first.
        """
        limit = self.config.data.max_length
        fitting_rows: list[tuple[int, int, Any]] = []
        report = DataReport(self.config.data.path)
        for row in self.sample:
            encoded = encode(self.renderer, row, limit)
            report.keep()
            if isinstance(encoded, RenderFailure):
                report.drop_kept("", encoded.reason, detail=encoded.detail)
            else:
                fitting_rows.append(
                    (tokens_of(encoded), len(fitting_rows), row if isinstance(row, Prompt) else encoded)
                )
        if not fitting_rows:
            problem, fix = report.explain_empty()
            raise UserError(problem, where=self.config.data.path, fix=fix)
        short = [entry for entry in fitting_rows if entry[0] <= ROW_TOKENS]
        return [entry[2] for entry in (short if len(short) >= FEW else sorted(fitting_rows))]

    # -- models ------------------------------------------------------------------------------------

    @cached
    def device(self) -> torch.device:
        """The device that training would use."""
        return choose_device(self.config.device)

    @cached
    def model(self) -> AdaptedModel:
        """The model; `trainer` adds the adapter that is trained."""
        return load_reward_base(self.source, WEIGHT_DTYPES[self.config.dtype], self.device)

    @property
    def backbone(self) -> Backbone:
        """The model, which is a causal language model: everything but an encoder is."""
        assert isinstance(self.model, Backbone)
        return self.model

    @property
    def base_parameters(self) -> list[nn.Parameter]:
        """The weights below the adapters."""
        return [p for name, p in self.model.model.named_parameters() if "lora_" not in name]

    @cached
    def trainer(self) -> SupervisedStage | RewardStage | ClassifierStage:
        """The stage itself, over a few rows."""
        size = min(FEW, len(self.fitting_rows))
        config = with_training(self.config, batch_size=size, max_steps=None, epochs=1, warmup_steps=0)
        if isinstance(config.training, SupervisedTraining):
            return SupervisedStage(config, self.backbone, self.fitting_rows[:size], [])
        if isinstance(config.training, ClassifierTraining):
            return ClassifierStage(config, self.model, self.scratch.root, self.fitting_rows[:size], [])
        return RewardStage(config, self.model, self.scratch.root, self.fitting_rows[:size], [])

    @property
    def trainable(self) -> dict[str, nn.Parameter]:
        """All trainable parameters, by name."""
        return self.trainer.optimiser.parameters

    @cached
    def batch(self) -> TokenBatch:
        """A few rows of different lengths in one padded batch."""
        rows = self.fitting_rows[:FEW]
        if isinstance(rows[0], TokenDemonstration):
            return self.padded([row.tokens for row in rows], [row.response_mask for row in rows])
        return self.padded([r.chosen_tokens for r in rows], [[True] * len(r.chosen_tokens) for r in rows])

    def padded(self, tokens: Sequence[Sequence[int]], response_mask: Sequence[Sequence[bool]]) -> TokenBatch:
        """Return a right-padded batch on the stage's device."""
        return collate(tokens, response_mask, self.renderer.pad).to(self.device)

    @torch.no_grad()
    def outputs(self, batch: TokenBatch) -> Tensor:
        """Compute the trained model's outputs: log-probabilities of response tokens, or one reward per row."""
        trainer = self.trainer
        if isinstance(trainer, HeadStage):
            return trainer.model.rewards(batch)
        return trainer.policy.evaluate(batch).logprobs[batch.response_mask]

    # -- updates ------------------------------------------------------------------------------------

    @cached
    def update(self) -> Update:
        """One optimiser step."""
        trainer, before = self.trainer, copy_trainable(self.trainable)
        frozen = fingerprint_tensors(self.base_parameters) if self.config.lora else ""
        metrics = trainer.step(0)
        changed = self.config.lora is not None and fingerprint_tensors(self.base_parameters) != frozen
        return Update(
            metrics, count_changed(before, self.trainable), len(before), ["base"] if changed else []
        )


# -- shared with PPO --------------------------------------------------------------------------------


def read_stage_rows(data: DataConfig, kind: TrainingType, seed: int) -> DataSample:
    """Read rows as a stage of this type does. Raises UserError as its loader does."""
    if kind == "sft":
        return DataSample(*sources.load_split(data, sources.load_demonstrations, seed))
    if kind == "classifier":
        return DataSample(*sources.load_split(data, sources.load_classified, seed))
    if kind in ("reward", "dpo"):
        return DataSample(*sources.load_split(data, sources.load_preferences, seed))
    return DataSample(*sources.load_split(data, sources.load_prompts, seed))


def encode(
    renderer: Renderer, row: ParsedRow, limit: int
) -> TokenDemonstration | TokenPair | list[int] | RenderFailure:
    """Encode a row within `limit` tokens, or return why it does not fit."""
    if isinstance(row, Demonstration):
        return renderer.encode_demonstration(row, limit)
    if isinstance(row, Prompt):
        return renderer.try_fit_prompt(row, limit)
    return renderer.encode_preference(row, limit)


def tokens_of(encoded: TokenDemonstration | TokenPair | list[int]) -> int:
    """Count the tokens of the longest sequence in it."""
    if isinstance(encoded, TokenPair):
        return max(len(encoded.chosen_tokens), len(encoded.rejected_tokens))
    return len(encoded.tokens if isinstance(encoded, TokenDemonstration) else encoded)


def with_training(config: RunConfig, **training: Any) -> RunConfig:
    """Return the configuration with changed training keys, validated again."""
    keys = config.model_dump(exclude_unset=True)
    return RunConfig.model_validate(keys | {"training": keys["training"] | training})


def recorded_config(source: ModelSource) -> RunConfig | None:
    """Return the configuration of the run that made a model; None if none is recorded or its version differs."""
    path = RunFolder(source.folder.parent).config
    if not path.exists():
        return None
    checksums.verify_file(path)
    try:
        return RunConfig.model_validate(config_lock.read_locked_config(path))
    except (UserError, ValidationError):
        return None


def copy_trainable(parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """Copy the tensors that must change in the first step: every B of an adapter, or eight tensors of a whole model.

    A has no gradient while B is zero.
    """
    names = list(parameters)
    chosen = [name for name in names if "lora_B" in name] or names[:: max(len(names) // 8, 1)]
    return {name: parameters[name].detach().clone() for name in chosen}


def count_changed(before: dict[str, Tensor], parameters: dict[str, nn.Parameter]) -> int:
    """Count the copied tensors that differ now."""
    return sum(not torch.equal(tensor, parameters[name]) for name, tensor in before.items())


def with_padding(batch: TokenBatch, vocabulary: int, more: int = 5) -> TokenBatch:
    """Add `more` columns of padding, and put random tokens into all padding."""
    pad = torch.nn.functional.pad
    attention_mask, response_mask = pad(batch.attention_mask, (0, more)), pad(batch.response_mask, (0, more))
    draw = torch.Generator().manual_seed(0)
    garbage = torch.randint(vocabulary, attention_mask.shape, generator=draw).to(batch.tokens.device)
    return replace(
        batch,
        tokens=torch.where(attention_mask, pad(batch.tokens, (0, more)), garbage),
        attention_mask=attention_mask,
        response_mask=response_mask,
    )
