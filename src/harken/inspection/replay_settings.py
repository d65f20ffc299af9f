"""Decide which settings allow recomputing a recorded update, and explain why others need the models."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harken.config import RunConfig
from harken.config.ppo import PPOTraining
from harken.errors import UserError
from harken.inspection.recorded import RecordedStep, ppo_settings, read_config
from harken.records import REWARD_MODEL

REPLAYABLE = (
    "training.ppo.kl_coef",
    "training.ppo.kl_estimator",
    "training.ppo.kl_in",
    "training.ppo.gamma",
    "training.ppo.lam",
    "training.ppo.advantage",
    "training.ppo.whiten_advantages",
    "training.ppo.scale_rewards",
    "training.ppo.drop_uniform_groups",
    "training.ppo.loss_aggregation",
    "training.ppo.importance_sampling_level",
    "training.ppo.truncated",
    "training.ppo.missing_eos_penalty",
    "training.ppo.missing_eos_score",
    "training.ppo.score_clip",
    "training.ppo.length_penalty",
    "training.ppo.repetition_penalty",
    "training.ppo.overlong",
    "training.ppo.clip_range",
    "training.ppo.clip_range_high",
    "training.ppo.vf_coef",
    "training.reward_model.weight",
    "training.rewards[0].weight",
)
"""The index of `training.rewards` may be any."""

_SAMPLED = "the responses were sampled with it, so another value needs a new generation"
_MODEL = "another value needs a forward pass of a model that is not recorded"
_CONTROL = "it controls the coefficient over a run; for one update set training.ppo.kl_coef"
_LEARNING = "it changes the optimisation, not rewards, advantages or returns"
_REASONS = {
    "seed": _SAMPLED,
    "model_name": _SAMPLED,
    "data": _SAMPLED,
    "training.ppo.temperature": _SAMPLED,
    "training.ppo.max_gen_len": _SAMPLED,
    "training.ppo.prompts_per_update": _SAMPLED,
    "training.ppo.samples_per_prompt": _SAMPLED,
    "training.ppo.reference": _MODEL,
    "training.ppo.critic": _MODEL,
    "training.ppo.value_clip_range": _MODEL,
    "training.reward_model": _MODEL,
    "training.rewards": _MODEL,
    "training.ppo.kl_control": _CONTROL,
    "training.ppo.kl_": _CONTROL,
}
"""Reason by key prefix; the longest matching prefix counts."""


def replay_config(step: RecordedStep, overrides: Sequence[str]) -> RunConfig:
    """Return the run's configuration with `overrides`.

    Raises UserError with the reason for a setting that needs a new generation or a model, or data that were not
    recorded.
    """
    config = read_config(step.run.root, overrides)
    for text in overrides:
        key = text.partition("=")[0]
        if re.sub(r"\[\d+\]", "[0]", key) not in REPLAYABLE:
            prefixes = [name for name in _REASONS if key.startswith(name)]
            reason = _REASONS[max(prefixes, key=len)] if prefixes else _LEARNING
            raise UserError(
                f"cannot be replayed: {reason}",
                where=f"--set {text}",
                fix="choose a key that `harken replay --help` lists",
            )
    if (missing := _not_recorded(step, config)) is not None:
        raise UserError(
            f"cannot be replayed: {missing}", where=str(step.run.root), fix="train with these settings"
        )
    return config


def replay_kl_coef(step: RecordedStep, config: RunConfig, overrides: Sequence[str]) -> float:
    """Return the KL coefficient: kl_coef if it is set for the replay, else the recorded coefficient."""
    overridden = any(text.partition("=")[0] == "training.ppo.kl_coef" for text in overrides)
    return ppo_settings(config).kl_coef if overridden else float(step.credit[0]["kl_coefficient"])


def _not_recorded(step: RecordedStep, config: RunConfig) -> str | None:
    """Describe which required data the tables lack; None if nothing."""
    old, new = step.settings, ppo_settings(config)
    if new.kl_estimator == "full" != old.kl_estimator:
        return "kl_estimator full sums over the vocabulary, but only the sampled tokens were recorded"
    if old.group_baseline and not new.group_baseline:
        return f"advantage {new.advantage} needs a critic, and {old.advantage} trained none"
    if new.truncated == "bootstrap" and any(row["final_value"] is None for row in step.credit):
        return "truncated bootstrap needs V of the last state of a truncated response, which was not recorded"
    if old.missing_eos_score is not None and new.missing_eos_score is None and _any_truncated(step):
        return "missing_eos_score replaced the reward model's scores of truncated responses"
    if (bound := old.score_clip) is not None and (new.score_clip is None or new.score_clip > bound):
        values = [step.scores(row).get(REWARD_MODEL, (None, 0.0))[0] for row in range(len(step.rollouts))]
        if any(value is not None and abs(value) >= bound for value in values):
            return f"scores were clipped to ± {bound:g} before they were recorded"
    return None


def _any_truncated(step: RecordedStep) -> bool:
    return any(row["stop"] == "length" for row in step.rollouts)


def source_weights(config: RunConfig) -> dict[str, float]:
    """Return source → weight of every part of the reward except the rules on response tokens."""
    training = config.training
    assert isinstance(training, PPOTraining)
    parts = {part.column: part.weight for part in training.rewards}
    return parts if training.reward_model is None else {REWARD_MODEL: training.reward_model.weight, **parts}
