"""Describe a planned stage whose policies generate responses, or whose scorers score them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from harken.config import (
    EvaluationConfig,
    GenerationConfig,
    LoraSettings,
    PipelineConfig,
    RunConfig,
    ScoringConfig,
)
from harken.config.base import DataConfig
from harken.config.run import WeightDtypeName
from harken.config.stages import MODEL, PipelineStage, find_stage
from harken.kernels import attention
from harken.plan.architecture import ModelInfo, find_model
from harken.plan.rows import PlannedRows, plan_rows
from harken.plan.shape import ModelShape, shape_of

SCORING_MICRO_BATCH = 4096
"""Tokens that are scored at a time (`evaluate.responses`)."""


@dataclass(frozen=True)
class ResponsesJob:
    """Describe a stage that generates responses (`generate`), scores them (`score`), or does both (an evaluation)."""

    name: str
    dtype: WeightDtypeName
    model: ModelInfo
    """Model of the last policy that a stage trains; the others are assumed to be like it."""
    shape: ModelShape
    rows: PlannedRows
    """The prompts."""
    lora: LoraSettings | None
    on_cpu: bool
    max_gen_len: int
    generated: tuple[int, ...]
    """Responses to each prompt, of every policy that generates."""
    scored: int
    """Responses to each prompt that are scored, of all policies together; 0 if none are."""
    memory: float | None = None
    """Bytes of the device's memory, which bound the KV cache; None if unknown."""


def responses_jobs(
    stage: PipelineStage, stages: Sequence[PipelineStage], config: PipelineConfig, *, on_cpu: bool
) -> Iterator[ResponsesJob]:
    """Yield the job of a stage; nothing if it neither generates nor scores what an earlier stage generates."""
    settings = stage.config
    if isinstance(settings, EvaluationConfig):
        models = {
            name: policy.model_name
            for name, policy in settings.policies.items()
            if policy.model_name is not None
        }
        samples = {
            name: policy.best_of or settings.samples or 1 for name, policy in settings.policies.items()
        }
        counts = [samples[name] for name in models]
        yield from _job(
            stage, stages, config, models, settings.prompt_data, on_cpu, counts, sum(samples.values())
        )
    elif isinstance(settings, GenerationConfig):
        models = {name: policy.model_name for name, policy in settings.policies.items()}
        counts = [settings.samples for _ in models]
        yield from _job(stage, stages, config, models, settings.data, on_cpu, counts, 0)
    elif isinstance(settings, ScoringConfig):
        source = next(
            (candidate for candidate in stages if str(candidate.output) == settings.responses), None
        )
        for job in responses_jobs(source, stages, config, on_cpu=on_cpu) if source else ():
            count = sum(job.generated) or job.scored
            yield replace(job, name=stage.name, dtype=settings.dtype, generated=(), scored=count)


def _job(
    stage: PipelineStage,
    stages: Sequence[PipelineStage],
    config: PipelineConfig,
    models: Mapping[str, str],
    data: DataConfig | None,
    on_cpu: bool,
    generated: Sequence[int],
    scored: int,
) -> Iterator[ResponsesJob]:
    """Yield the job, planned with the last policy that a stage trains; nothing if no policy generates."""
    settings = stage.config
    assert isinstance(settings, EvaluationConfig | GenerationConfig)
    if not models or data is None:
        return
    makers = [find_stage(stages, name) for name in stage.policies.values() if name != MODEL]
    trained = [(maker, maker.config) for maker in makers if isinstance(maker.config, RunConfig)]
    model = first_model(trained[-1][0], stages, config) if trained else find_model([*models.values()][-1])
    lora = trained[-1][1].lora if trained else None
    packs = on_cpu and attention.is_full_attention(model.config)
    rows = plan_rows("ppo", data, model.source, settings.seed, packs=packs)
    shape = shape_of(model.config, lora)
    yield ResponsesJob(
        stage.name,
        settings.dtype,
        model,
        shape,
        rows,
        lora,
        on_cpu,
        settings.max_gen_len,
        tuple(generated),
        scored,
    )


def first_model(stage: PipelineStage, stages: Sequence[PipelineStage], config: PipelineConfig) -> ModelInfo:
    """Return the model at the beginning of the stages that a training stage starts from: they share its shape."""
    while stage.start not in (None, MODEL):
        stage = find_stage(stages, str(stage.start))
    assert isinstance(stage.config, RunConfig)
    return find_model(config.model_name if stage.start == MODEL else stage.config.model_name)
