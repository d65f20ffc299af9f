"""Find the largest micro-batch that fits into memory."""

from __future__ import annotations

from dataclasses import dataclass

from harken.config.ppo import PPOTraining
from harken.config.preference_training import DPOTraining, OnlineDPOTraining
from harken.config.training import RewardTraining
from harken.plan.job import Job
from harken.plan.phases import phases
from harken.plan.responses_job import ResponsesJob

USABLE_MEMORY = 0.9
"""Share of the memory that a plan may use; the rest is a margin for prediction errors."""
CANDIDATES = sorted({round(2**power * part) for power in range(7, 18) for part in (1.0, 1.5)}, reverse=True)


@dataclass(frozen=True)
class FitResult:
    """A stage changed so that it fits, and the changed keys."""

    job: Job | ResponsesJob
    changes: dict[str, object]
    fits: bool


def fit(job: Job | ResponsesJob, process: float, memory: float) -> FitResult:
    """Find the largest `micro_batch_tokens` whose predicted peak is at most `USABLE_MEMORY` × `memory` bytes.

    If none fits, try again with gradient checkpointing. If that does not fit either, the stage is returned unchanged.
    """
    if isinstance(job, ResponsesJob):
        return FitResult(job, {}, _peak(job, process) <= USABLE_MEMORY * memory)
    for extra in ({}, {"gradient_checkpointing": True}):
        changed = job.with_training(**extra)
        for tokens in _candidates(job):
            tried = changed.with_training(micro_batch_tokens=tokens)
            if _peak(tried, process) <= USABLE_MEMORY * memory:
                return FitResult(tried, {**extra, "micro_batch_tokens": tokens}, fits=True)
    return FitResult(job, {}, fits=False)


def _peak(job: Job | ResponsesJob, process: float) -> float:
    return max(phase.total for phase in phases(job, process))


def _candidates(job: Job) -> list[int]:
    """List token budgets to try, largest first: from a whole batch in one pass down to one row, which is not split."""
    lengths, training = job.rows.lengths, job.config.training
    response = 0
    if isinstance(training, PPOTraining):
        settings = training.ppo
        rows = -(-settings.prompts_per_update * settings.samples_per_prompt // settings.minibatches)
        response = settings.max_gen_len
    else:
        assert not isinstance(training, OnlineDPOTraining)  # planned as PPO (`plan.job`)
        rows = training.batch_size * (2 if isinstance(training, RewardTraining | DPOTraining) else 1)
    longest = max(lengths) + response
    between = [size for size in CANDIDATES if longest < size < rows * longest]
    return [rows * longest, *between, longest]
