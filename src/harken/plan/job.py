"""Describe a planned stage: its configuration, models and rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harken.config import LoraSettings, PipelineConfig, RunConfig
from harken.config import files as config_files
from harken.config.ppo import PPOTraining
from harken.config.preference_training import OnlineDPOTraining
from harken.config.rewards import (
    ClassifierPart,
    EnsemblePart,
    HonestyBonusPart,
    ModelPart,
    RewardPart,
    SycophancyPenaltyPart,
)
from harken.config.stages import resolve_stages
from harken.errors import UserError
from harken.kernels import attention
from harken.models.quantised import WEIGHT_DTYPES, compute_dtype
from harken.models.resolve import resolve
from harken.models.structure import is_bidirectional
from harken.plan.activations import PassMemory
from harken.plan.architecture import ModelInfo, find_model, preset_of_path
from harken.plan.responses_job import ResponsesJob, first_model, responses_jobs
from harken.plan.rows import PlannedRows, plan_rows
from harken.plan.shape import ModelShape, shape_of


@dataclass(frozen=True)
class Scorer:
    """Describe a reward model that is loaded with the policy."""

    shape: ModelShape
    rank: int
    """Rank of its adapter; 0 without one."""
    has_own_base: bool
    """Whether it loads its own base instead of sharing the policy's."""
    is_judge: bool = False
    """Whether it scores only held-out responses."""


@dataclass(frozen=True)
class PlannedRewardModel:
    """Describe a reward model that a pipeline will train: an adapter on a base."""

    folder: Path
    lora: LoraSettings
    base: ModelInfo


PLANNED_RULE = {"type": "rule", "name": "planned"}
"""Placeholder of the reward while PPO settings are made; it is replaced by the configured one."""


@dataclass(frozen=True)
class Job:
    """Describe a training stage."""

    name: str
    config: RunConfig
    model: ModelInfo
    shape: ModelShape
    rows: PlannedRows
    on_cpu: bool
    scorers: tuple[Scorer, ...] = ()
    notes: tuple[str, ...] = ()
    learned_share: float = 1.0
    """Share of the sampled responses that an optimiser step trains on: online DPO uses two per prompt."""
    memory: float | None = None
    """Bytes of the device's memory, which bound the KV cache; None if unknown."""

    @property
    def itemsize(self) -> int:
        """Bytes of an activation, and of a frozen weight that is not quantised."""
        return compute_dtype(WEIGHT_DTYPES[self.config.dtype]).itemsize

    @property
    def trained_parameters(self) -> int:
        """Number of trained parameters, without heads."""
        lora = self.config.lora
        return self.shape.lora_parameters(lora.rank) if lora else self.shape.parameters

    @property
    def pass_memory(self) -> PassMemory:
        """Memory of passes of the trained model."""
        lora, training = self.config.lora, self.config.training
        return PassMemory(
            self.shape,
            self.itemsize,
            lora.rank if lora else None,
            bool(lora and lora.dropout),
            self.on_cpu,
            training.gradient_checkpointing,
        )

    @property
    def budget(self) -> int:
        """Tokens per micro-batch."""
        return self.config.training.micro_batch_tokens

    def with_training(self, **keys: object) -> Job:
        """Return the job with changed training keys."""
        training = self.config.training.model_copy(update=keys)
        return replace(self, config=self.config.model_copy(update={"training": training}))


def jobs(config: RunConfig | PipelineConfig, *, on_cpu: bool) -> Iterator[Job | ResponsesJob]:
    """Yield the stages that train, generate or score, in order. Raises UserError if a model cannot be found."""
    if isinstance(config, RunConfig):
        yield job(config.training.type, config, find_model(config.model_name), on_cpu=on_cpu)
        return
    stages = resolve_stages(config, str(config.output_dir))
    planned: list[PlannedRewardModel] = []
    for stage in stages:
        if isinstance(stage.config, RunConfig):
            model = first_model(stage, stages, config)
            yield job(stage.name, stage.config, model, planned, on_cpu=on_cpu)
            if stage.type in ("reward", "classifier"):
                planned.append(PlannedRewardModel(stage.output, stage.config.lora or LoraSettings(), model))
        else:
            yield from responses_jobs(stage, stages, config, on_cpu=on_cpu)


def job(
    name: str,
    config: RunConfig,
    model: ModelInfo,
    planned: Sequence[PlannedRewardModel] = (),
    *,
    on_cpu: bool,
) -> Job:
    """Describe a stage. `planned` are the reward models that earlier stages will train."""
    share = 1.0
    if isinstance(config.training, OnlineDPOTraining):
        share = 2.0 / config.training.online_dpo.samples_per_prompt
        config = config.model_copy(update={"training": _as_ppo(config.training)})
    if is_bidirectional(model.config):
        raise UserError(
            f"memory and time of an encoder ({model.config.model_type}) are not predicted",
            where=model.name,
            fix="start the run: its metrics record both, and out-of-memory halves micro_batch_tokens",
        )
    shape = shape_of(model.config, config.lora)
    packs = on_cpu and attention.is_full_attention(model.config)
    rows = plan_rows(config.training.type, config.data, model.source, config.seed, packs=packs)
    notes = [model.note, rows.note and f"{name}: {rows.note}"]
    if not shape.is_llama_like:
        kind = model.config.model_type
        notes.append(f"{kind} layers are counted like Llama's: the prediction is less accurate")
    scorers: list[Scorer] = []
    if isinstance(config.training, PPOTraining):
        for path, judge in _reward_paths(config.training):
            coming = next((candidate for candidate in planned if path == str(candidate.folder)), None)
            if coming is not None:
                shares = config.lora is not None and coming.base.name == model.name
                scorer_shape = shape if shares else shape_of(coming.base.config, coming.lora)
                scorers.append(Scorer(scorer_shape, coming.lora.rank, not shares, judge))
                continue
            scorer, note = _scorer(path, shape, model, config.lora)
            scorers.append(replace(scorer, is_judge=judge))
            notes.append(note)
        for part, judge in _reward_parts(config.training):
            if isinstance(part, ClassifierPart):
                classifier = shape_of(find_model(part.model_name).config, classifier=True)
                scorers.append(Scorer(classifier, 0, True, judge))
            elif isinstance(part, SycophancyPenaltyPart | HonestyBonusPart) and part.detector in (
                "contrast",
                "steering",
            ):
                reader, note = _reader(str(part.model_name), shape)
                scorers.append(Scorer(reader, 0, True, judge))
                notes.append(note)
        if config.training.random_reward:
            scorers.append(Scorer(shape, 0, has_own_base=config.lora is None))
    unique_notes = tuple(dict.fromkeys(note for note in notes if note))
    return Job(name, config, model, shape, rows, on_cpu, tuple(scorers), unique_notes, share)


def _as_ppo(training: OnlineDPOTraining) -> PPOTraining:
    """Return PPO settings with the same rollouts, scoring and optimiser, without a critic and with one epoch.

    An update of online DPO runs the same passes over its responses, so it is planned as that of PPO.
    """
    settings = training.online_dpo
    rollout = settings.model_dump(
        include={
            "updates",
            "prompts_per_update",
            "samples_per_prompt",
            "max_gen_len",
            "temperature",
            "judges",
        }
    )
    shared = training.model_dump(exclude={"type", "online_dpo", "reward_model", "rewards"})
    ppo = {**rollout, "epochs": 1, "advantage": "rloo", "trace_every": 10**9}
    ppo_training = PPOTraining.model_validate(
        {"type": "ppo", **shared, "ppo": ppo, "rewards": [PLANNED_RULE]}
    )
    return ppo_training.model_copy(
        update={"reward_model": training.reward_model, "rewards": training.rewards}
    )


def _reward_parts(training: PPOTraining) -> list[tuple[RewardPart, bool]]:
    """List the parts of the reward (False) and the judges (True)."""
    return [*((part, False) for part in training.rewards), *((part, True) for part in training.ppo.judges)]


def _reward_paths(training: PPOTraining) -> list[tuple[str, bool]]:
    """List folders of reward models, and whether each is a judge."""
    paths: list[tuple[str, bool]] = []
    if training.reward_model is not None and not training.random_reward:
        paths.append((training.reward_model.checkpoint_path, False))
    for part, judge in _reward_parts(training):
        paths += [(part.checkpoint_path, judge)] if isinstance(part, ModelPart) else []
        paths += [(path, judge) for path in part.checkpoint_paths] if isinstance(part, EnsemblePart) else []
        if isinstance(part, SycophancyPenaltyPart | HonestyBonusPart) and part.detector == "classifier":
            paths.append((str(part.model_name), judge))
    return paths


def _reader(path: str, policy: ModelShape) -> tuple[ModelShape, str]:
    """Describe the language model of a detector: like the policy where it does not exist yet."""
    try:
        return shape_of(find_model(path).config), ""
    except UserError:
        return policy, f"the detector's model {path} does not exist yet: planned like the policy"


def _scorer(path: str, policy: ModelShape, start: ModelInfo, lora: LoraSettings | None) -> tuple[Scorer, str]:
    """Describe a reward model, existing or planned. The policy shares its base only if it has an adapter."""
    rank = (lora or LoraSettings()).rank
    try:
        source = resolve(path)
    except UserError:
        return _future_scorer(path, policy, start, lora)
    base = source.chain()[0].folder
    shared = lora is not None and start.folder is not None and base.resolve() == start.folder.resolve()
    settings = find_model(str(base)).config
    shape = shape_of(settings, classifier=is_bidirectional(settings))
    return Scorer(shape, rank if source.base else 0, has_own_base=not shared), ""


def _future_scorer(
    path: str, policy: ModelShape, start: ModelInfo, lora: LoraSettings | None
) -> tuple[Scorer, str]:
    """Describe a reward model that does not exist yet: as its preset would train it, else like the policy."""
    preset = preset_of_path(path)
    if preset is None:
        note = f"reward model {path} does not exist yet: planned as an adapter on the policy's base"
        return Scorer(policy, (lora or LoraSettings()).rank, has_own_base=lora is None), note
    run = config_files.load_run(preset, [])
    has_own_base = lora is None or run.model_name != start.name
    where = "its own base" if has_own_base else "the policy's base"
    note = f"reward model {path} does not exist yet: planned as preset {preset} on {where}"
    return Scorer(
        shape_of(find_model(run.model_name).config, run.lora), (run.lora or LoraSettings()).rank, has_own_base
    ), note
