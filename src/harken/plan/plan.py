"""Plan a run or a pipeline: memory by phase, seconds and cost. Trains nothing and reads no weights."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import torch

from harken.config import LoraSettings, PipelineConfig, RunConfig, WeightDtypeName
from harken.config.ppo import PPOTraining
from harken.config.stages import resolve_stages
from harken.errors import UserError
from harken.models.device import choose_device, device_memory
from harken.models.quantised import WEIGHT_DTYPES, compute_dtype
from harken.plan.calibrate import Timings, measure_timings
from harken.plan.duration import Duration, duration
from harken.plan.fit import FitResult, fit
from harken.plan.job import Job, jobs
from harken.plan.phases import CUDA_CONTEXT, Phase, concurrent_responses, phases
from harken.plan.responses_job import SCORING_MICRO_BATCH, ResponsesJob
from harken.plan.rss import resident_bytes
from harken.run.terminal import say

LONGEST_TIMED = 1024
"""Largest number of tokens of a timed row."""


@dataclass(frozen=True)
class Plan:
    """The plan of a run or a pipeline."""

    config: str
    device: str
    dtype: str
    model: str
    parameters: int
    trained: int
    phases: tuple[Phase, ...]
    durations: tuple[Duration, ...]
    """Empty if nothing was timed."""
    memory: float | None
    """Available bytes; None if not given."""
    fits: bool
    advice: tuple[str, ...]
    """`--set` arguments that make it fit, or that use the available memory."""
    price: float | None
    notes: tuple[str, ...]
    planning_seconds: float

    @property
    def peak(self) -> Phase:
        """The phase that needs the most memory."""
        return max(self.phases, key=lambda phase: phase.total)

    @property
    def seconds(self) -> float | None:
        """Seconds of all stages; None if nothing was timed or the number of steps is unknown."""
        totals = [d.total for d in self.durations]
        if not totals or any(total is None for total in totals):
            return None
        return sum(total for total in totals if total is not None)

    @property
    def cost(self) -> float | None:
        """Cost in the unit of `price`; None without a price or a time."""
        return None if self.price is None or self.seconds is None else self.price * self.seconds / 3600


def make_plan(
    config: RunConfig | PipelineConfig,
    name: str,
    *,
    memory: float | None = None,
    device: str | None = None,
    price: float | None = None,
    timed: bool = True,
) -> Plan:
    """Make a plan. `memory` is in bytes, `price` per hour; `device` overrides the configuration's.

    Raises UserError if a model's settings cannot be found.
    """
    start = time.perf_counter()
    kind = (device or config.device).partition(":")[0]
    if kind not in ("auto", "cpu", "cuda"):
        raise UserError(f"unknown device {kind!r}", where="--device", fix="use cpu or cuda")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    bound = memory if memory is not None else device_memory(torch.device(kind))
    planned = [replace(job, memory=bound) for job in jobs(config, on_cpu=kind == "cpu")]
    if not planned:
        raise UserError(
            "no stage trains, generates, or scores generated responses",
            where=name,
            fix="name a pipeline with a training run, an evaluation or a stage of type generate",
        )
    # Measured now: as in training, only Python, libraries, tokenizer and rows are loaded.
    process = resident_bytes() if kind == "cpu" else CUDA_CONTEXT
    fitted = [fit(job, process, memory) for job in planned] if memory is not None else []
    if all(f.fits for f in fitted):
        planned = [f.job for f in fitted] or planned
    planned_phases = tuple(phase for job in planned for phase in phases(job, process))
    first = planned[0]
    notes = list(dict.fromkeys(note for job in planned if isinstance(job, Job) for note in job.notes))
    durations: tuple[Duration, ...] = ()
    if timed and kind == "cuda" and not torch.cuda.is_available():
        notes.append("no durations: there is no CUDA device to measure on")
    elif timed:
        durations = _durations(config.dtype, planned, choose_device(kind))
    return Plan(
        config=name,
        device=kind,
        dtype=config.dtype,
        model=first.model.name,
        parameters=first.shape.parameters,
        trained=first.trained_parameters if isinstance(first, Job) else 0,
        phases=planned_phases,
        durations=durations,
        memory=memory,
        fits=all(f.fits for f in fitted),
        advice=_advice(fitted, _keys(config)),
        price=price,
        notes=tuple(notes),
        planning_seconds=time.perf_counter() - start,
    )


def _durations(
    dtype: WeightDtypeName, planned: list[Job | ResponsesJob], device: torch.device
) -> tuple[Duration, ...]:
    """Predict the duration of every stage. Stages with similar row lengths share a measurement."""
    say("timing a few layers on this machine …")
    timings_by_key: dict[tuple[object, ...], Timings] = {}
    durations = []
    for job in planned:
        lora = job.lora if isinstance(job, ResponsesJob) else job.config.lora
        response = _max_response(job)
        typical = sorted(job.rows.lengths)[len(job.rows.lengths) // 2] + response
        # Rounded up to a multiple of 64, so that similar stages are timed once.
        tokens = min(-(-typical // 64) * 64, LONGEST_TIMED)
        checkpointing = isinstance(job, Job) and job.config.training.gradient_checkpointing
        budget = job.budget if isinstance(job, Job) else SCORING_MICRO_BATCH
        slots = concurrent_responses(job)
        key = (job.model.name, tokens, budget, slots, bool(lora), checkpointing)
        if key not in timings_by_key:
            timings_by_key[key] = measure_timings(
                job.model.config, job.shape, lora or _timed_lora(job),
                compute_dtype(WEIGHT_DTYPES[dtype]), device,
                tokens=tokens, budget=budget, slots=slots, capacity=max(tokens, 8), checkpointing=checkpointing,
            )  # fmt: skip
        durations.append(duration(job, timings_by_key[key]))
    return tuple(durations)


def _timed_lora(job: Job | ResponsesJob) -> LoraSettings | None:
    """Return default LoRA settings for responses, which are timed like an adapter's, whatever the policies are."""
    return LoraSettings() if isinstance(job, ResponsesJob) else None


def _max_response(job: Job | ResponsesJob) -> int:
    if isinstance(job, ResponsesJob):
        return job.max_gen_len
    training = job.config.training
    return training.ppo.max_gen_len if isinstance(training, PPOTraining) else 0


def _keys(config: RunConfig | PipelineConfig) -> dict[str, str]:
    """Return the dotted key of each stage of a pipeline, by its name; {} for a run."""
    if isinstance(config, RunConfig):
        return {}
    return {stage.name: stage.key for stage in resolve_stages(config, str(config.output_dir))}


def _advice(fitted: list[FitResult], keys: dict[str, str]) -> tuple[str, ...]:
    advice = []
    for stage in fitted:
        prefix = f"{keys[stage.job.name]}." if keys else ""
        for key, value in stage.changes.items():
            advice.append(f"{prefix}training.{key}={str(value).lower()}")
    return tuple(dict.fromkeys(advice))
