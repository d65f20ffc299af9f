"""Report what a replay changes, as a table of recorded and replayed values."""

from __future__ import annotations

import torch
from torch import Tensor

from harken.batches import PolicyOutputs
from harken.inspection.recompute import Replay, StepTensors, max_differences
from harken.inspection.recorded import RecordedStep, new_logprobs_hint, ppo_settings
from harken.maths.advantage import explained_variance
from harken.maths.kl import ESTIMATORS
from harken.run import manifest
from harken.run.terminal import format_table
from harken.train.ppo.loss import UpdateStats, policy_loss, value_loss
from harken.train.ppo.minibatch import TokenCounts

TOLERANCE = 1e-6
"""Largest difference, relative to the largest return, at which a replay still counts as a reproduction."""


def replay_metrics(tensors: StepTensors, replay: Replay) -> dict[str, float | int | None]:
    """Compute metrics by name with unit; None where one does not apply or was not recorded.

    Rewards and KL are means over responses; advantages, returns and losses are means over the tokens of their mask.
    """
    settings, targets, responses = ppo_settings(replay.config), replay.targets, len(replay.scored)
    policy_mask, value_mask, old = targets.policy_mask, targets.value_mask, tensors.old
    advantages, returns = targets.advantages[policy_mask], targets.returns[policy_mask]
    kl_estimate = float(targets.kl_estimate.sum()) / responses
    metrics: dict[str, float | int | None] = {
        "reward, mean": sum(row.reward for row in replay.scored) / responses,
        "KL from the reference, nats per response": float(targets.kl.sum()) / responses,
        "KL by kl_estimator, nats per response": kl_estimate,
        "KL penalty per response": replay.kl_coef * kl_estimate,
        "token rewards, sum per response": float(targets.rewards.sum()) / responses,
        "tokens in the policy loss": int(policy_mask.sum()),
        "advantage, mean": _mean(advantages),
        "advantage, standard deviation": _std(advantages),
        "return, mean": _mean(returns),
        "return, standard deviation": _std(returns),
        "explained variance of the critic": None,
        "value loss before the update": None,
        "value loss × vf_coef": None,
        "policy loss after the update": None,
        "ratios outside the clip range": None,
    }
    stats = UpdateStats()
    stats.begin_step(TokenCounts.of(policy_mask, value_mask))
    if value_mask.any():
        explained = explained_variance(old.values, targets.returns, value_mask)
        metrics["explained variance of the critic"] = float(explained)
        weighted = value_loss(old.values, targets, settings, stats) / int(value_mask.sum())
        metrics["value loss before the update"] = stats.steps[-1]["value/loss"]
        metrics["value loss × vf_coef"] = float(weighted)
    if tensors.new_logprobs is not None and policy_mask.any():
        new = PolicyOutputs(tensors.new_logprobs, torch.zeros_like(tensors.new_logprobs), old.values)
        policy_loss(new, targets, settings, stats)
        metrics["policy loss after the update"] = stats.steps[-1]["policy/loss"]
        metrics["ratios outside the clip range"] = stats.steps[-1]["policy/clipfrac"]
        if settings.kl_in == "loss" and settings.kl_estimator != "full":
            kl = ESTIMATORS[settings.kl_estimator](tensors.new_logprobs, tensors.ref_logprobs)
            metrics["KL in the loss after the update"] = replay.kl_coef * _mean(kl[policy_mask])
    return metrics


def sign_changes(before: Replay, after: Replay) -> float:
    """Return the share of tokens in both policy masks whose advantage changes sign."""
    learned = before.targets.policy_mask & after.targets.policy_mask
    old, new = before.targets.advantages[learned], after.targets.advantages[learned]
    return _mean((old.sign() != new.sign()).float())


def reproduction(tensors: StepTensors, before: Replay, recomputed: Replay) -> str:
    """Report whether a replay under the recorded settings (`recomputed`) reproduces the recorded credit."""
    gaps = max_differences(before.targets, recomputed.targets, tensors.response_mask)
    largest = ", ".join(f"{name} {gap:.1g}" for name, gap in gaps.items())
    returns = torch.where(tensors.response_mask, before.targets.returns, 0.0)
    if max(gaps.values()) <= TOLERANCE * max(1.0, float(returns.abs().max())):
        return f"reproduces the recorded advantages: max difference {largest}"
    return (
        f"warning: DOES NOT reproduce the recorded credit: max difference {largest}. "
        "Another version wrote the run, or its files were changed"
    )


def format_replay(
    step: RecordedStep, tensors: StepTensors, before: Replay, recomputed: Replay, after: Replay
) -> list[str]:
    """Return the lines that `harken replay` prints. `recomputed` uses the recorded settings, `after` the new ones."""
    changed = manifest.config_difference(step.config.model_dump(), after.config.model_dump())
    count = int(tensors.response_mask.sum())
    lines = [
        f"{step.run.root} update {step.number}: {len(step.rollouts)} responses, {count} tokens",
        reproduction(tensors, before, recomputed),
        *changed,
        f"KL coefficient: {before.kl_coef:g} → {after.kl_coef:g}",
        "",
    ]
    lines += _table(
        replay_metrics(tensors, before), replay_metrics(tensors, after), sign_changes(before, after)
    )
    if tensors.new_logprobs is None:
        lines += [
            "",
            "policy loss: log-probabilities were not measured again after this update",
            new_logprobs_hint(step),
        ]
    return lines


def _table(
    before: dict[str, float | int | None], after: dict[str, float | int | None], signs: float
) -> list[str]:
    names = list(dict.fromkeys([*before, *after]))
    changes = []
    for name in names:
        old, new = before.get(name), after.get(name)
        changes.append("" if old is None or new is None else _format(new - old, "+"))
    cells = {
        "": [*names, "tokens whose advantage changes sign"],
        "recorded": [*(_format(before.get(name)) for name in names), ""],
        "replayed": [*(_format(after.get(name)) for name in names), f"{signs:.1%}"],
        "change": [*changes, ""],
    }
    return format_table(cells, right={"recorded", "replayed", "change"}).splitlines()


def _format(value: float | int | None, sign: str = "") -> str:
    if value is None:
        return "—"
    return format(value, f"{sign}d") if isinstance(value, int) else format(value, f"{sign}z.4f")


def _mean(values: Tensor) -> float:
    return float(values.mean()) if len(values) else 0.0


def _std(values: Tensor) -> float:
    return float(values.std(correction=0)) if len(values) else 0.0
