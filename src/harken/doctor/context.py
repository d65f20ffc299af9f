"""The stage under examination: its settings, tokenizer, rows, model and one small update of its real code.

Everything is made when a check first asks for it and shared by all checks. Nothing is written but into `scratch`.
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
from harken.config.training import RewardTraining, SupervisedTraining
from harken.data import sources
from harken.data.chat import Renderer, RenderFailure
from harken.data.report import DataReport
from harken.doctor.cached import part
from harken.doctor.check import Kind
from harken.errors import UserError
from harken.health.limits import Limits, limits_for
from harken.models.backbone import Backbone
from harken.models.device import choose_device
from harken.models.find_tokenizer import tokenizer_of
from harken.models.quantised import WEIGHT_DTYPES
from harken.models.resolve import ModelSource, require_use, resolve
from harken.models.roles import fingerprint_tensors
from harken.records import Demonstration, Preference, Prompt, TokenDemonstration, TokenPair
from harken.run import checksums, config_lock
from harken.run.folder import RunFolder
from harken.seeds import permutation
from harken.train.reward_model import RewardStage
from harken.train.sft import SupervisedStage

Row = Demonstration | Preference | TokenPair | Prompt

SAMPLE = 400
"""Rows whose tokens are counted."""
FEW = 4
"""Rows of the small update."""
ROW_TOKENS = 160
"""Rows up to this long are taken for it where there are some: a check should not take minutes."""
SPLIT_TOKENS = 1_000_000
"""A micro-batch that holds everything."""


@dataclass(frozen=True)
class Around:
    """What stands around a stage of a pipeline: data of the stages before and after it, and what stands in."""

    answers: DataConfig | None = None
    """Demonstrations the policy was, or will be, tuned on."""
    pairs: DataConfig | None = None
    """Preferences the reward model was, or will be, trained on."""
    tested: DataConfig | None = None
    """What the pipeline's evaluation reads."""
    untuned: str = ""
    """Why the base model stands in for the fine-tuned one; "" when it does not."""
    unrewarded: str = ""
    """Why an untrained head stands in for the reward model; "" when none does."""
    judges: tuple[RewardPart, ...] = ()
    """Scorers of the evaluation."""
    tuned: bool = False
    """Whether supervised fine-tuning comes before this stage in the pipeline."""


@dataclass(frozen=True)
class DataSample:
    """A stage's rows as its loader gives them, and the account of them."""

    train: Sequence[Row]
    held_out: Sequence[Row]
    reports: Sequence[DataReport]


@dataclass(frozen=True)
class Update:
    """One step of the stage's own code on a few rows."""

    metrics: dict[str, float]
    moved: int
    watched: int
    """Trainable tensors that were compared, and how many of them changed."""
    thawed: list[str]
    """Frozen weights that changed, by component."""


class Context:
    """One stage, as its configuration describes it."""

    def __init__(self, config: RunConfig, output: Path, scratch: Path, around: Around | None = None) -> None:
        self.config, self.output, self.scratch = config, output, RunFolder(scratch)
        self.around = around or Around()

    @property
    def kind(self) -> Kind:
        """What is trained."""
        return self.config.training.type

    @property
    def limits(self) -> Limits:
        """The monitor's limits, for the type that is computed in."""
        return limits_for(self.config.dtype)

    # -- what is read -----------------------------------------------------------------------------

    @part
    def source(self) -> ModelSource:
        """The model training starts from."""
        return require_use(resolve(self.config.model_name), "policy")

    @part
    def renderer(self) -> Renderer:
        """Its tokenizer and chat template."""
        return Renderer(tokenizer_of(self.source), self.config.data.keep_special_tokens)

    @part
    def rows(self) -> DataSample:
        """What the stage reads."""
        return read_rows(self.config.data, self.kind, self.config.seed)

    @part
    def sample(self) -> list[Row]:
        """At most `SAMPLE` training rows, chosen by the seed."""
        order = permutation(len(self.rows.train), self.config.seed, "doctor", "sample")
        return [self.rows.train[i] for i in order[:SAMPLE]]

    @part
    def fitting(self) -> list[Any]:
        """The sample as the stage's loader would hand it on: rows that fit `data.max_length`, as tokens (SFT and
        reward models) or as they are (PPO). Short ones first."""
        limit = self.config.data.max_length
        fitting: list[tuple[int, int, Any]] = []
        report = DataReport(self.config.data.path)
        for row in self.sample:
            encoded = encode(self.renderer, row, limit)
            report.keep()
            if isinstance(encoded, RenderFailure):
                report.drop_kept("", encoded.reason, detail=encoded.detail)
            else:
                fitting.append(
                    (tokens_of(encoded), len(fitting), row if isinstance(row, Prompt) else encoded)
                )
        if not fitting:
            what, fix = report.explain_empty()
            raise UserError(what, where=self.config.data.path, fix=fix)
        short = [entry for entry in fitting if entry[0] <= ROW_TOKENS]
        return [entry[2] for entry in (short if len(short) >= FEW else sorted(fitting))]

    # -- what is loaded ---------------------------------------------------------------------------

    @part
    def device(self) -> torch.device:
        """Where training would run."""
        return choose_device(self.config.device)

    @part
    def backbone(self) -> Backbone:
        """The model, with the adapter that trains once `trainer` was asked for."""
        return Backbone.load(self.source, WEIGHT_DTYPES[self.config.dtype], self.device)

    @property
    def base_parameters(self) -> list[nn.Parameter]:
        """The weights under the adapters."""
        return [p for name, p in self.backbone.model.named_parameters() if "lora_" not in name]

    @part
    def trainer(self) -> SupervisedStage | RewardStage:
        """The stage itself, over a few rows."""
        size = min(FEW, len(self.fitting))
        config = changed(self.config, batch_size=size, max_steps=None, epochs=1, warmup_steps=0)
        if isinstance(config.training, SupervisedTraining):
            return SupervisedStage(config, self.backbone, self.fitting[:size], [])
        assert isinstance(config.training, RewardTraining)
        return RewardStage(config, self.backbone, self.scratch.root, self.fitting[:size], [])

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """Everything that trains, by name."""
        return self.trainer.optimiser.parameters

    @part
    def batch(self) -> TokenBatch:
        """A few rows of different lengths in one padded batch."""
        rows = self.fitting[:FEW]
        if isinstance(rows[0], TokenDemonstration):
            return self.padded([row.tokens for row in rows], [row.response_mask for row in rows])
        return self.padded([r.chosen_tokens for r in rows], [[True] * len(r.chosen_tokens) for r in rows])

    def padded(self, tokens: Sequence[Sequence[int]], response_mask: Sequence[Sequence[bool]]) -> TokenBatch:
        """A right-padded batch on the stage's device."""
        return collate(tokens, response_mask, self.renderer.pad).to(self.device)

    @torch.no_grad()
    def said(self, batch: TokenBatch) -> Tensor:
        """What the trained model says of a batch: a log-probability an action token, or a reward a row."""
        trainer = self.trainer
        if isinstance(trainer, RewardStage):
            return trainer.model.rewards(batch)
        return trainer.policy.evaluate(batch).logprobs[batch.response_mask]

    # -- what is run ------------------------------------------------------------------------------

    @part
    def update(self) -> Update:
        """One optimiser step."""
        trainer, before = self.trainer, watched(self.trained)
        frozen = fingerprint_tensors(self.base_parameters) if self.config.lora else ""
        metrics = trainer.step(0)
        changed = self.config.lora is not None and fingerprint_tensors(self.base_parameters) != frozen
        return Update(metrics, moved(before, self.trained), len(before), ["base"] if changed else [])


# -- shared with PPO --------------------------------------------------------------------------------


def read_rows(data: DataConfig, kind: Kind, seed: int) -> DataSample:
    """Rows read as a stage of this kind reads them. Raises UserError as its loader does."""
    if kind == "sft":
        return DataSample(*sources.load_split(data, sources.load_demonstrations, seed))
    if kind == "reward":
        return DataSample(*sources.load_split(data, sources.load_preferences, seed))
    return DataSample(*sources.load_split(data, sources.load_prompts, seed))


def encode(
    renderer: Renderer, row: Row, limit: int
) -> TokenDemonstration | TokenPair | list[int] | RenderFailure:
    """A row as tokens within `limit`, or why it cannot be."""
    if isinstance(row, Demonstration):
        return renderer.encode_demonstration(row, limit)
    if isinstance(row, Prompt):
        return renderer.try_fit_prompt(row, limit)
    return renderer.encode_preference(row, limit)


def tokens_of(encoded: TokenDemonstration | TokenPair | list[int]) -> int:
    """Tokens of the longest sequence in it."""
    if isinstance(encoded, TokenPair):
        return max(len(encoded.chosen_tokens), len(encoded.rejected_tokens))
    return len(encoded.tokens if isinstance(encoded, TokenDemonstration) else encoded)


def changed(config: RunConfig, **training: Any) -> RunConfig:
    """The configuration with other training keys, validated again."""
    said = config.model_dump(exclude_unset=True)
    return RunConfig.model_validate(said | {"training": said["training"] | training})


def recorded(source: ModelSource) -> RunConfig | None:
    """The configuration of the run that made a model; None where none is recorded or it is of another version."""
    path = RunFolder(source.folder.parent).config
    if not path.exists():
        return None
    checksums.verify_file(path)
    try:
        return RunConfig.model_validate(config_lock.read_locked_config(path))
    except (UserError, ValidationError):
        return None


def watched(parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """Copies of what has to move in the first step: every B of an adapter (A has no gradient while B is zero), or
    eight tensors of a whole model."""
    names = list(parameters)
    chosen = [name for name in names if "lora_B" in name] or names[:: max(len(names) // 8, 1)]
    return {name: parameters[name].detach().clone() for name in chosen}


def moved(before: dict[str, Tensor], parameters: dict[str, nn.Parameter]) -> int:
    """How many of the watched tensors are no longer what they were."""
    return sum(not torch.equal(tensor, parameters[name]) for name, tensor in before.items())


def with_pads(batch: TokenBatch, vocabulary: int, more: int = 5) -> TokenBatch:
    """The same rows with `more` columns of padding, and random tokens in place of all padding."""
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
