"""Predict the duration of a stage: token counts times measured seconds per token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harken.card.build import RESPONSES_PER_PROBE
from harken.config.ppo import PPOTraining
from harken.config.preference_training import DPOTraining
from harken.config.training import HeadTraining, RewardTraining, SupervisedTraining
from harken.plan.calibrate import Timings
from harken.plan.job import Job, Scorer
from harken.plan.phases import (
    card_micro_batches,
    concurrent_responses,
    rollout_micro_batches,
    supervised_micro_batches,
)
from harken.plan.responses_job import ResponsesJob
from harken.plan.rows import SAMPLED_BATCHES, MicroBatch
from harken.train.reward_model import CALIBRATION_PAIRS
from harken.train.sampler import num_steps


@dataclass(frozen=True)
class Duration:
    """The predicted time of a stage."""

    stage: str
    steps: int | None
    """Optimiser steps, or PPO updates; None if the data cannot be read."""
    parts: dict[str, float]
    """Seconds per step, by phase."""
    outside_steps: float
    """Seconds outside the steps: held-out evaluation, calibration, a reward model's card."""

    @property
    def step(self) -> float:
        """Seconds of one step."""
        return sum(self.parts.values())

    @property
    def total(self) -> float | None:
        """Seconds of the stage; None if the number of steps is unknown."""
        return None if self.steps is None else self.steps * self.step + self.outside_steps


def duration(job: Job | ResponsesJob, timings: Timings) -> Duration:
    """Predict the duration of a stage. Responses are assumed to reach max_gen_len."""
    if isinstance(job, ResponsesJob):
        return _responses(job, timings)
    if isinstance(job.config.training, PPOTraining):
        return _ppo(job, timings)
    return _supervised(job, timings)


def _supervised(job: Job, timings: Timings) -> Duration:
    training = job.config.training
    assert isinstance(training, SupervisedTraining | HeadTraining | DPOTraining)
    layers = job.shape.layers
    size = min(training.batch_size, job.rows.train or training.batch_size)
    padded = _padded_tokens(supervised_micro_batches(job)) / SAMPLED_BATCHES
    targets = sum(job.rows.target_tokens) / len(job.rows.target_tokens) * size
    parts = {"trunk": padded * layers * timings.training}
    held_out = job.rows.held_out * padded / size * layers * timings.forward
    calibration = _card_seconds(job, timings)
    if not isinstance(training, HeadTraining):
        parts["head"] = targets * timings.head_training
        held_out += job.rows.held_out * targets / size * timings.head_forward
    elif isinstance(training, RewardTraining) and training.normalise != "none":
        pairs = min(CALIBRATION_PAIRS, job.rows.train or CALIBRATION_PAIRS)
        calibration += pairs * padded / size * layers * timings.forward
    steps = training.max_steps
    if job.rows.train is not None:
        steps = num_steps(job.rows.train, training.batch_size, training.epochs, training.max_steps)
    if isinstance(training, DPOTraining):
        # The reference scores all rows once; each held-out evaluation samples responses.
        one_row = (padded * layers * timings.forward + targets * timings.head_forward) / size
        calibration = ((job.rows.train or 0) + job.rows.held_out) * one_row
        prompts = min(training.dpo.eval_prompts, job.rows.held_out)
        held_out += _generation(job, prompts, prompts, training.dpo.max_gen_len, timings) if prompts else 0.0
    # The merge of SFT evaluates the held-out loss twice more.
    evaluations = (steps or 0) // training.eval_every + (3 if isinstance(training, SupervisedTraining) else 1)
    return Duration(job.name, steps, parts, evaluations * held_out + calibration)


def _card_seconds(job: Job, timings: Timings) -> float:
    """Predict the card at the end of a reward stage: held-out pairs, and probes of as many as its minutes allow."""
    training = job.config.training
    groups = card_micro_batches(job)
    if not isinstance(training, RewardTraining) or not groups:
        return 0.0
    pairs = min(training.card.pairs, job.rows.held_out)
    scoring = _padded_tokens(groups) * job.shape.layers * timings.forward
    per_probe = scoring / (2 * pairs) * RESPONSES_PER_PROBE
    pairs_probed = min(training.card.probe_pairs, pairs)
    return scoring + min(pairs_probed * per_probe, 60 * training.card.minutes)


def _ppo(job: Job, timings: Timings) -> Duration:
    training = job.config.training
    assert isinstance(training, PPOTraining)
    settings, layers = training.ppo, job.shape.layers
    count = settings.prompts_per_update * settings.samples_per_prompt
    padded = _padded_tokens(rollout_micro_batches(job)) / SAMPLED_BATCHES
    response_tokens = count * settings.max_gen_len
    own_critic = settings.critic != "shared"
    one_forward = padded * layers * timings.forward + response_tokens * timings.head_forward
    always_after = settings.update_kl_limit is not None
    # The forward over the largest micro-batch of the first optimiser step serves evaluation and training.
    largest = max(rows * longest for rows, longest in rollout_micro_batches(job, 1, settings.minibatches))
    forwards = 2 - min(largest / padded, 1.0) + (1 if always_after else 1 / settings.trace_every)
    learn = (
        padded * layers * timings.training * (2 if own_critic else 1)
        + response_tokens * timings.head_training
    )
    parts = {
        "generate": _generation(job, settings.prompts_per_update, count, settings.max_gen_len, timings),
        "score": padded
        * timings.forward
        * sum(_scoring_layers(job)(s) for s in job.scorers if not s.is_judge),
        "evaluate": forwards * one_forward + (padded * layers * timings.forward if own_critic else 0.0),
        "learn": settings.epochs * learn * job.learned_share,
    }
    held_out = job.rows.held_out
    evaluation = 0.0
    if held_out:
        evaluation = _generation(job, held_out, held_out, settings.max_gen_len, timings)
        evaluation += (
            padded * timings.forward * sum(map(_scoring_layers(job), job.scorers)) * held_out / count
        )
    evaluations = settings.updates // training.eval_every + 2
    return Duration(job.name, settings.updates, parts, evaluations * evaluation)


def _responses(job: ResponsesJob, timings: Timings) -> Duration:
    """Predict one step per policy; one step for a stage that only scores."""
    layers, prompts, longest = job.shape.layers, job.rows.train or 0, job.max_gen_len
    steps = len(job.generated) or 1
    generation = sum(
        _generation(job, prompts, prompts * samples, longest, timings) for samples in job.generated
    )
    parts = {"generate": generation / steps} if job.generated else {}
    if job.scored:
        one_each = job.rows.prefill_tokens(prompts, concurrent_responses(job)) + prompts * longest
        parts["score"] = job.scored * one_each * layers * timings.forward / steps
    return Duration(job.name, steps, parts, 0.0)


def _generation(
    job: Job | ResponsesJob, prompts: int, responses: int, longest: int, timings: Timings
) -> float:
    """Predict seconds of generation: prefill of all prompts, then one decode step per token and round of full slots."""
    slots = concurrent_responses(job)
    prefill = job.rows.prefill_tokens(prompts, slots) * job.shape.layers * timings.forward if prompts else 0.0
    rounds = max(responses / slots, 1.0)
    return prefill + rounds * longest * (job.shape.layers * timings.decode + timings.sample)


def _padded_tokens(groups: list[MicroBatch]) -> float:
    """Count tokens including padding."""
    return sum(rows * longest for rows, longest in groups)


def _scoring_layers(job: Job) -> Callable[[Scorer], float]:
    """Return a function from a reward model to the number of policy layers with as many parameters."""
    return lambda scorer: job.shape.layers * scorer.shape.parameters / job.shape.parameters
