"""The credit of a recorded update, computed again under other settings. Nothing is generated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from harken.batches import PolicyOutputs, collate
from harken.config import RunConfig
from harken.inspection.recorded import RecordedStep, ppo_settings, rollout
from harken.inspection.replay_settings import REWARD_MODEL, weights
from harken.records import Score, ScoredRollout
from harken.reward.rules import Length, MissingEos, Repetition, penalties
from harken.reward.source import clipped, score_all
from harken.run.credit_table import write_credit
from harken.train.ppo.targets import PPOTargets, compute_targets, token_columns

_RULES = {MissingEos.name, Length.name, Repetition.name}


@dataclass(frozen=True)
class StepTensors:
    """The recorded update as the tensors it was computed from, in the run's own layout. Float32, on the CPU."""

    response_mask: Bool[Tensor, "batch time"]
    truncated: Bool[Tensor, " batch"]
    old: PolicyOutputs
    reference_logprobs: Float[Tensor, "batch time"]
    recorded: PPOTargets
    new_logprobs: Float[Tensor, "batch time"] | None
    """After the update; None when they were not measured."""


@dataclass(frozen=True)
class Replay:
    """One way to credit the update: as it was recorded, or under other settings."""

    config: RunConfig
    kl_coefficient: float
    scored: list[ScoredRollout]
    targets: PPOTargets


def step_tensors(step: RecordedStep) -> StepTensors:
    """Prompts and padding included, because whitening sums in that order; they hold zeros and are never read."""
    prompts = [len(row["prompt_tokens"]) for row in step.rollouts]
    answers = [row["response_tokens"] for row in step.rollouts]
    batch = collate(
        [[0] * before + answer for before, answer in zip(prompts, answers, strict=True)],
        [[False] * before + [True] * len(answer) for before, answer in zip(prompts, answers, strict=True)],
        pad_token=0,
    )

    def column(name: str, dtype: torch.dtype = torch.float32) -> Tensor:
        whole = torch.zeros(batch.response_mask.shape, dtype=dtype)
        values = [value for row in step.credit for value in row[name] or [0.0] * len(row["old_logprobs"])]
        whole[batch.response_mask] = torch.tensor(values, dtype=dtype)
        return whole

    finals = [row["final_value"] for row in step.credit]
    nothing = torch.zeros(batch.response_mask.shape)
    old = PolicyOutputs(
        column("old_logprobs"), nothing, column("values"), None if None in finals else torch.tensor(finals)
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
        kl_penalty=column("kl_penalty"),
    )
    new = column("new_logprobs") if step.measured() else None
    truncated = torch.tensor([row["stop"] == "length" for row in step.rollouts])
    return StepTensors(batch.response_mask, truncated, old, column("reference_logprobs"), recorded, new)


def as_recorded(step: RecordedStep, tensors: StepTensors) -> Replay:
    """The update as the run saw it."""
    coefficient = float(step.credit[0]["kl_coefficient"])
    return Replay(step.config, coefficient, rescore(step, step.config), tensors.recorded)


def recompute(step: RecordedStep, tensors: StepTensors, config: RunConfig, kl_coefficient: float) -> Replay:
    """The update credited under `config`, by the code that a run uses. `config` is one of `replay_config`'s."""
    scored = rescore(step, config)
    targets = compute_targets(
        tensors.old,
        tensors.reference_logprobs,
        tensors.response_mask,
        tensors.truncated,
        torch.tensor([row.reward for row in scored], dtype=torch.float32),
        kl_coefficient,
        ppo_settings(config),
        tensors.recorded.kl_penalty if ppo_settings(config).kl_estimator == "full" else None,
    )
    return Replay(config, kl_coefficient, scored, targets)


def rescore(step: RecordedStep, config: RunConfig) -> list[ScoredRollout]:
    """Every answer's reward under `config`: recorded scores of models, rules computed anew."""
    settings, weight_of = ppo_settings(config), weights(config)
    rollouts = [rollout(row) for row in step.rollouts]
    scored = []
    for number, by_rules in enumerate(score_all(penalties(settings), rollouts)):
        answer = by_rules.rollout
        kept = []
        for source, (value, recorded_weight) in step.scores(number).items():
            if source == REWARD_MODEL and settings.missing_eos_score is not None and answer.stop == "length":
                value = settings.missing_eos_score
            elif source == REWARD_MODEL and value is not None:
                value = clipped(value, settings.score_clip)
            if source not in _RULES:
                kept.append(Score(source, value, weight_of.get(source, recorded_weight)))
        scored.append(ScoredRollout(answer, (*kept, *by_rules.scores)))
    return scored


def differences(
    recorded: PPOTargets, again: PPOTargets, response_mask: Bool[Tensor, "batch time"]
) -> dict[str, float]:
    """The largest |difference| of each quantity between what was recorded and what was computed again."""
    pairs = {
        "KL": (recorded.kl, again.kl),
        "rewards": (recorded.rewards, again.rewards),
        "returns": (recorded.returns, again.returns),
        "advantages": (recorded.advantages, again.advantages),
    }
    return {
        name: float((old - new)[response_mask].abs().max()) if response_mask.any() else 0.0
        for name, (old, new) in pairs.items()
    }


def write_replay(path: Path, step: RecordedStep, tensors: StepTensors, made: Replay) -> None:
    """The recomputed update as a credit table."""
    targets, finals = made.targets, tensors.old.final_values
    has_critic = all(row["values"] is not None for row in step.credit)
    write_credit(
        path,
        made.scored,
        tensors.response_mask,
        token_columns(targets, tensors.reference_logprobs, tensors.new_logprobs, critic=has_critic),
        kl_coefficient=made.kl_coefficient,
        final_values=None if finals is None else finals.tolist(),
        step=step.number,
    )
