"""Seconds of a stage: how many tokens go through what, times what a token takes on this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harken.config.ppo import PPOTraining
from harken.config.training import RewardTraining, SupervisedTraining
from harken.plan.calibrate import Timings
from harken.plan.job import EvaluationJob, Job, Scorer
from harken.plan.phases import concurrent_responses, rollout_micro_batches, supervised_micro_batches
from harken.plan.rows import SAMPLED_BATCHES, MicroBatch
from harken.train.reward_model import CALIBRATION_PAIRS
from harken.train.sampler import num_steps


@dataclass(frozen=True)
class Duration:
    """The time of a stage."""

    stage: str
    steps: int | None
    """Optimiser steps, or updates of PPO; None where the data cannot be read."""
    parts: dict[str, float]
    """Seconds a step, by what they go to."""
    outside_steps: float
    """Seconds of the run outside its steps: held-out rows, calibration."""

    @property
    def step(self) -> float:
        """Seconds of one step."""
        return sum(self.parts.values())

    @property
    def total(self) -> float | None:
        """Seconds of the stage; None where the number of steps is unknown."""
        return None if self.steps is None else self.steps * self.step + self.outside_steps


def duration(job: Job | EvaluationJob, rates: Timings) -> Duration:
    """The time of a stage at these rates. Answers are taken to be as long as they may be."""
    if isinstance(job, EvaluationJob):
        return _evaluation(job, rates)
    if isinstance(job.config.training, PPOTraining):
        return _ppo(job, rates)
    return _supervised(job, rates)


def _supervised(job: Job, rates: Timings) -> Duration:
    training = job.config.training
    assert isinstance(training, SupervisedTraining | RewardTraining)
    layers = job.shape.layers
    size = min(training.batch_size, job.rows.train or training.batch_size)
    padded = _padded_tokens(supervised_micro_batches(job)) / SAMPLED_BATCHES
    answered = sum(job.rows.target_tokens) / len(job.rows.target_tokens) * size
    parts = {"trunk": padded * layers * rates.training}
    held_out = job.rows.held_out * padded / size * layers * rates.forward
    calibration = 0.0
    if isinstance(training, SupervisedTraining):
        parts["head"] = answered * rates.head_training
        held_out += job.rows.held_out * answered / size * rates.head_forward
    elif training.normalise != "none":
        pairs = min(CALIBRATION_PAIRS, job.rows.train or CALIBRATION_PAIRS)
        calibration = pairs * padded / size * layers * rates.forward
    steps = training.max_steps
    if job.rows.train is not None:
        steps = num_steps(job.rows.train, training.batch_size, training.epochs, training.max_steps)
    # At the merge of SFT the held-out loss is measured twice more.
    looks = (steps or 0) // training.eval_every + (3 if isinstance(training, SupervisedTraining) else 1)
    return Duration(job.name, steps, parts, looks * held_out + calibration)


def _ppo(job: Job, rates: Timings) -> Duration:
    training = job.config.training
    assert isinstance(training, PPOTraining)
    settings, layers = training.ppo, job.shape.layers
    count = settings.prompts_per_update * settings.samples_per_prompt
    padded = _padded_tokens(rollout_micro_batches(job)) / SAMPLED_BATCHES
    response_masks = count * settings.max_gen_len
    own_critic = settings.critic != "shared"
    look = padded * layers * rates.forward + response_masks * rates.head_forward
    again = settings.update_kl_limit is not None
    # The largest micro-batch of the first optimiser step is evaluated and learnt from in one forward.
    largest = max(rows * longest for rows, longest in rollout_micro_batches(job, 1, settings.minibatches))
    looks = 2 - min(largest / padded, 1.0) + (1 if again else 1 / settings.trace_every)
    learn = padded * layers * rates.training * (2 if own_critic else 1) + response_masks * rates.head_training
    parts = {
        "generate": _generation(job, settings.prompts_per_update, count, settings.max_gen_len, rates),
        "score": padded * rates.forward * sum(_scoring_layers(job)(s) for s in job.scorers if not s.is_judge),
        "evaluate": looks * look + (padded * layers * rates.forward if own_critic else 0.0),
        "learn": settings.epochs * learn,
    }
    held_out = job.rows.held_out
    probe = 0.0
    if held_out:
        probe = _generation(job, held_out, held_out, settings.max_gen_len, rates)
        probe += padded * rates.forward * sum(map(_scoring_layers(job), job.scorers)) * held_out / count
    probes = settings.updates // training.eval_every + 2
    return Duration(job.name, settings.updates, parts, probes * probe)


def _evaluation(job: EvaluationJob, rates: Timings) -> Duration:
    layers, count, longest = job.shape.layers, job.rows.train or 0, job.config.max_gen_len
    answers = _generation(job, count, count, longest, rates)
    tokens = job.rows.prefill_tokens(count, concurrent_responses(job)) + count * longest
    policies = len(job.config.policies)
    parts = {"generate": answers, "score": tokens * layers * rates.forward}
    return Duration(job.name, policies, parts, 0.0)


def _generation(job: Job | EvaluationJob, prompts: int, answers: int, longest: int, rates: Timings) -> float:
    """Reading the prompts once, then one step a token for as many rounds of full slots as it takes."""
    together = concurrent_responses(job)
    reading = (
        job.rows.prefill_tokens(prompts, together) * job.shape.layers * rates.forward if prompts else 0.0
    )
    rounds = max(answers / together, 1.0)
    return reading + rounds * longest * (job.shape.layers * rates.decode + rates.sample)


def _padded_tokens(groups: list[MicroBatch]) -> float:
    """Padding included."""
    return sum(rows * longest for rows, longest in groups)


def _scoring_layers(job: Job) -> Callable[[Scorer], float]:
    """How many of the policy's layers a reward model is worth, roughly: by its parameters."""
    return lambda scorer: job.shape.layers * scorer.shape.parameters / job.shape.parameters
