"""Recompute the PPO targets of a recorded update under other settings, without generating responses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from harken.batches import PolicyOutputs, collate
from harken.config import RunConfig
from harken.inspection.recorded import RecordedStep, ppo_settings, to_rollout
from harken.inspection.replay_settings import source_weights
from harken.records import REWARD_MODEL, Score, ScoredRollout
from harken.reward.rules import Length, MissingEos, Overlong, Repetition, penalties
from harken.reward.source import clip_score, score_all
from harken.run.credit_table import write_credit
from harken.train.ppo.targets import PPOTargets, compute_targets, token_columns

_RULES = {MissingEos.name, Length.name, Repetition.name, Overlong.name}


@dataclass(frozen=True)
class StepTensors:
    """The tensors of a recorded update in the run's own padded layout. Float32, on the CPU."""

    response_mask: Bool[Tensor, "batch time"]
    truncated: Bool[Tensor, " batch"]
    old: PolicyOutputs
    ref_logprobs: Float[Tensor, "batch time"]
    recorded: PPOTargets
    new_logprobs: Float[Tensor, "batch time"] | None
    """Log-probabilities after the update; None if they were not measured."""


@dataclass(frozen=True)
class Replay:
    """Rewards and PPO targets of the update: as recorded, or under other settings."""

    config: RunConfig
    kl_coef: float
    scored: list[ScoredRollout]
    targets: PPOTargets


def step_tensors(step: RecordedStep) -> StepTensors:
    """Build the tensors of a recorded update.

    Prompts and padding are included because whitening sums in that order. They are filled with zeros and never read.
    """
    prompts = [len(row["prompt_tokens"]) for row in step.rollouts]
    responses = [row["response_tokens"] for row in step.rollouts]
    batch = collate(
        [[0] * prompt_length + response for prompt_length, response in zip(prompts, responses, strict=True)],
        [
            [False] * prompt_length + [True] * len(response)
            for prompt_length, response in zip(prompts, responses, strict=True)
        ],
        pad_token=0,
    )

    def column(name: str, dtype: torch.dtype = torch.float32) -> Tensor:
        padded = torch.zeros(batch.response_mask.shape, dtype=dtype)
        values = [value for row in step.credit for value in row[name] or [0.0] * len(row["old_logprobs"])]
        padded[batch.response_mask] = torch.tensor(values, dtype=dtype)
        return padded

    finals = [row["final_value"] for row in step.credit]
    zeros = torch.zeros(batch.response_mask.shape)
    old = PolicyOutputs(
        column("old_logprobs"), zeros, column("values"), None if None in finals else torch.tensor(finals)
    )
    recorded = PPOTargets(
        old_logprobs=old.logprobs,
        old_values=old.values,
        advantages=column("advantages"),
        returns=column("returns"),
        policy_mask=column("policy_mask", torch.bool),
        value_mask=column("value_mask", torch.bool),
        rewards=column("rewards"),
        kl=column("kl"),
        kl_estimate=column("kl_penalty"),
    )
    new = column("new_logprobs") if step.has_new_logprobs() else None
    truncated = torch.tensor([row["stop"] == "length" for row in step.rollouts])
    return StepTensors(batch.response_mask, truncated, old, column("reference_logprobs"), recorded, new)


def as_recorded(step: RecordedStep, tensors: StepTensors) -> Replay:
    """Return the update as it was recorded."""
    coefficient = float(step.credit[0]["kl_coefficient"])
    return Replay(step.config, coefficient, rescore(step, step.config), tensors.recorded)


def recompute(step: RecordedStep, tensors: StepTensors, config: RunConfig, kl_coef: float) -> Replay:
    """Compute the update's PPO targets under `config` with the training code. `config` comes from `replay_config`."""
    scored = rescore(step, config)
    targets = compute_targets(
        tensors.old,
        tensors.ref_logprobs,
        tensors.response_mask,
        tensors.truncated,
        torch.tensor([row.reward for row in scored], dtype=torch.float32),
        kl_coef,
        ppo_settings(config),
        tensors.recorded.kl_estimate if ppo_settings(config).kl_estimator == "full" else None,
    )
    return Replay(config, kl_coef, scored, targets)


def rescore(step: RecordedStep, config: RunConfig) -> list[ScoredRollout]:
    """Compute the reward of every response under `config`: recorded model scores, recomputed rule scores."""
    settings, weight_of = ppo_settings(config), source_weights(config)
    rollouts = [to_rollout(row) for row in step.rollouts]
    scored = []
    for index, by_rules in enumerate(score_all(penalties(settings), rollouts)):
        response = by_rules.rollout
        scores = []
        for source, (value, recorded_weight) in step.scores(index).items():
            if (
                source == REWARD_MODEL
                and settings.missing_eos_score is not None
                and response.stop == "length"
            ):
                value = settings.missing_eos_score
            elif source == REWARD_MODEL and value is not None:
                value = clip_score(value, settings.score_clip)
            if source not in _RULES:
                scores.append(Score(source, value, weight_of.get(source, recorded_weight)))
        scored.append(ScoredRollout(response, (*scores, *by_rules.scores)))
    return scored


def max_differences(
    recorded: PPOTargets, recomputed: PPOTargets, response_mask: Bool[Tensor, "batch time"]
) -> dict[str, float]:
    """Return the largest |difference| of each quantity between the recorded and the recomputed targets."""
    pairs = {
        "KL": (recorded.kl, recomputed.kl),
        "rewards": (recorded.rewards, recomputed.rewards),
        "returns": (recorded.returns, recomputed.returns),
        "advantages": (recorded.advantages, recomputed.advantages),
    }
    return {
        name: float((old - new)[response_mask].abs().max()) if response_mask.any() else 0.0
        for name, (old, new) in pairs.items()
    }


def write_replay(path: Path, step: RecordedStep, tensors: StepTensors, replay: Replay) -> None:
    """Write the recomputed update as a credit table."""
    targets, finals = replay.targets, tensors.old.final_values
    has_critic = all(row["values"] is not None for row in step.credit)
    write_credit(
        path,
        replay.scored,
        tensors.response_mask,
        token_columns(targets, tensors.ref_logprobs, tensors.new_logprobs, critic=has_critic),
        kl_coef=replay.kl_coef,
        final_values=None if finals is None else finals.tolist(),
        step=step.number,
    )
