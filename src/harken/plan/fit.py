"""The largest micro-batch that a memory holds."""

from __future__ import annotations

from dataclasses import dataclass

from harken.config.ppo import PPOTraining
from harken.config.training import RewardTraining
from harken.plan.job import EvaluationJob, Job
from harken.plan.phases import phases

USABLE_MEMORY = 0.9
"""Of the memory: a tenth is left for what a prediction misses."""
CANDIDATES = sorted({round(2**power * part) for power in range(7, 18) for part in (1.0, 1.5)}, reverse=True)


@dataclass(frozen=True)
class FitResult:
    """A stage, changed so that it fits, and the keys that changed."""

    job: Job | EvaluationJob
    changes: dict[str, object]
    fits: bool


def fit(job: Job | EvaluationJob, process: float, memory: float) -> FitResult:
    """The stage with the largest `micro_batch_tokens` whose predicted peak is within nine tenths of `memory` bytes.

    If none is small enough, the same with gradient checkpointing; if that is not enough either, as it was.
    """
    if isinstance(job, EvaluationJob):
        return FitResult(job, {}, _peak(job, process) <= USABLE_MEMORY * memory)
    for more in ({}, {"gradient_checkpointing": True}):
        changed = job.with_training(**more)
        for tokens in _candidates(job):
            tried = changed.with_training(micro_batch_tokens=tokens)
            if _peak(tried, process) <= USABLE_MEMORY * memory:
                return FitResult(tried, {**more, "micro_batch_tokens": tokens}, fits=True)
    return FitResult(job, {}, fits=False)


def _peak(job: Job | EvaluationJob, process: float) -> float:
    return max(phase.total for phase in phases(job, process))


def _candidates(job: Job) -> list[int]:
    """Budgets worth trying, the largest first: from a whole batch in one pass to one row, which is never split."""
    lengths, training = job.rows.lengths, job.config.training
    answer = 0
    if isinstance(training, PPOTraining):
        settings = training.ppo
        rows = -(-settings.prompts_per_update * settings.samples_per_prompt // settings.minibatches)
        answer = settings.max_gen_len
    else:
        rows = training.batch_size * (2 if isinstance(training, RewardTraining) else 1)
    longest = max(lengths) + answer
    between = [size for size in CANDIDATES if longest < size < rows * longest]
    return [rows * longest, *between, longest]
