"""What a replay changed, as a table: recorded beside replayed."""

from __future__ import annotations

import torch
from torch import Tensor

from harken.batches import PolicyOutputs
from harken.inspection.recompute import Replay, StepTensors, differences
from harken.inspection.recorded import RecordedStep, measured_hint, ppo_settings
from harken.maths.advantage import explained_variance
from harken.maths.kl import ESTIMATORS
from harken.run import manifest
from harken.run.terminal import table
from harken.train.ppo.loss import UpdateStats, policy_loss, value_loss
from harken.train.ppo.minibatch import TokenCounts

REPRODUCED = 1e-6
"""A replay under the recorded settings that is further from what was recorded is not the same computation."""


def measures(tensors: StepTensors, made: Replay) -> dict[str, float | int | None]:
    """Name with unit → figure, None where it does not apply or was not recorded.

    Rewards and KL are means over answers; advantages, returns and losses over the tokens they are used at.
    """
    settings, targets, answers = ppo_settings(made.config), made.targets, len(made.scored)
    policy_mask, value_mask, old = targets.policy_mask, targets.value_mask, tensors.old
    advantages, returns = targets.advantages[policy_mask], targets.returns[policy_mask]
    paid = float(targets.kl_penalty.sum()) / answers
    figures: dict[str, float | int | None] = {
        "reward, mean": sum(row.reward for row in made.scored) / answers,
        "KL to the reference, nats per answer": float(targets.kl.sum()) / answers,
        "KL as it is priced, nats per answer": paid,
        "KL cost per answer": made.kl_coefficient * paid,
        "token rewards, sum per answer": float(targets.rewards.sum()) / answers,
        "tokens learnt from": int(policy_mask.sum()),
        "advantage, mean": _mean(advantages),
        "advantage, standard deviation": _spread(advantages),
        "return, mean": _mean(returns),
        "return, standard deviation": _spread(returns),
        "explained variance of the critic": None,
        "value loss before the update": None,
        "value loss × vf_coef": None,
        "policy loss after the update": None,
        "ratios outside the clip": None,
    }
    stats = UpdateStats()
    stats.begin_step(TokenCounts(int(policy_mask.sum()), int(value_mask.sum())))
    if value_mask.any():
        explained = explained_variance(old.values, targets.returns, value_mask)
        figures["explained variance of the critic"] = float(explained)
        weighted = value_loss(old.values, targets, settings, stats) / int(value_mask.sum())
        figures["value loss before the update"] = stats.steps[-1]["value/loss"]
        figures["value loss × vf_coef"] = float(weighted)
    if tensors.new_logprobs is not None and policy_mask.any():
        new = PolicyOutputs(tensors.new_logprobs, torch.zeros_like(tensors.new_logprobs), old.values)
        policy_loss(new, targets, settings, stats)
        figures["policy loss after the update"] = stats.steps[-1]["policy/loss"]
        figures["ratios outside the clip"] = stats.steps[-1]["policy/clipfrac"]
        if settings.kl_in == "loss" and settings.kl_estimator != "full":
            kl_penalty = ESTIMATORS[settings.kl_estimator](tensors.new_logprobs, tensors.reference_logprobs)
            figures["KL in the loss after the update"] = made.kl_coefficient * _mean(kl_penalty[policy_mask])
    return figures


def sign_changes(before: Replay, after: Replay) -> float:
    """The share of tokens, of those learnt from in both, whose advantage changes sign."""
    both = before.targets.policy_mask & after.targets.policy_mask
    old, new = before.targets.advantages[both], after.targets.advantages[both]
    return _mean((old.sign() != new.sign()).float())


def reproduction(tensors: StepTensors, before: Replay, again: Replay) -> str:
    """Whether the recorded settings give the recorded credit again. `again` is a replay under them."""
    gaps = differences(before.targets, again.targets, tensors.response_mask)
    largest = ", ".join(f"{name} {gap:.1g}" for name, gap in gaps.items())
    returns = torch.where(tensors.response_mask, before.targets.returns, 0.0)
    if max(gaps.values()) <= REPRODUCED * max(1.0, float(returns.abs().max())):
        return f"reproduces the recorded advantages: max difference {largest}"
    return (
        f"warning: DOES NOT reproduce the recorded credit: max difference {largest}. "
        "The run was made by another version, or its files were changed"
    )


def report(
    step: RecordedStep, tensors: StepTensors, before: Replay, again: Replay, after: Replay
) -> list[str]:
    """The lines that `harken replay` prints. `again` is under the recorded settings, `after` under the asked."""
    changed = manifest.config_difference(step.config.model_dump(), after.config.model_dump())
    count = int(tensors.response_mask.sum())
    lines = [
        f"{step.run.root} update {step.number}: {len(step.rollouts)} answers, {count} tokens",
        reproduction(tensors, before, again),
        *changed,
        f"KL coefficient: {before.kl_coefficient:g} → {after.kl_coefficient:g}",
        "",
    ]
    lines += _table(measures(tensors, before), measures(tensors, after), sign_changes(before, after))
    if tensors.new_logprobs is None:
        lines += [
            "",
            "policy loss: log-probabilities were not measured again after this update",
            measured_hint(step),
        ]
    return lines


def _table(
    before: dict[str, float | int | None], after: dict[str, float | int | None], signs: float
) -> list[str]:
    names = list(dict.fromkeys([*before, *after]))
    changes = []
    for name in names:
        old, new = before.get(name), after.get(name)
        changes.append("" if old is None or new is None else _shown(new - old, "+"))
    cells = {
        "": [*names, "tokens whose advantage changes sign"],
        "recorded": [*(_shown(before.get(name)) for name in names), ""],
        "replayed": [*(_shown(after.get(name)) for name in names), f"{signs:.1%}"],
        "change": [*changes, ""],
    }
    return table(cells, right={"recorded", "replayed", "change"}).splitlines()


def _shown(value: float | int | None, sign: str = "") -> str:
    if value is None:
        return "—"
    return format(value, f"{sign}d") if isinstance(value, int) else format(value, f"{sign}z.4f")


def _mean(values: Tensor) -> float:
    return float(values.mean()) if len(values) else 0.0


def _spread(values: Tensor) -> float:
    return float(values.std(correction=0)) if len(values) else 0.0
