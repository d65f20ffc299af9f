"""The minibatch loss token by token in plain Python, and what is measured beside it."""

from __future__ import annotations

import math

import pytest
import torch
from make_targets import make_targets

from harken.batches import PolicyOutputs
from harken.config.ppo import PPOSettings
from harken.train.ppo.loss import UpdateStats, policy_loss, value_loss
from harken.train.ppo.minibatch import TokenCounts
from harken.train.ppo.targets import PPOTargets

SHAPE = (3, 5)


def example() -> tuple[PolicyOutputs, PPOTargets]:
    draw = torch.Generator().manual_seed(2)

    def tensor(scale: float = 1.0) -> torch.Tensor:
        return torch.randn(SHAPE, generator=draw) * scale

    policy_mask = torch.rand(SHAPE, generator=draw) > 0.4
    now = PolicyOutputs(tensor(0.3) - 2, tensor().abs(), tensor())
    return now, make_targets(tensor(0.3) - 2, tensor(), tensor(), tensor(), policy_mask)


@pytest.mark.parametrize(("entropy_coef", "value_clip"), [(0.0, 0.2), (0.01, 0.2), (0.01, None)])
def test_loss_and_measures_equal_the_definition(entropy_coef: float, value_clip: float | None) -> None:
    """P29, P30, P32, S4-01, S4-10: sum over learnable tokens of policy + 0.1 × value − coefficient × entropy."""
    settings = PPOSettings(entropy_coef=entropy_coef, value_clip_range=value_clip)
    now, targets = example()
    policy_mask = targets.policy_mask
    policy, value, entropy, clipped = [], [], [], []
    for place in policy_mask.nonzero().tolist():
        at = tuple(place)
        ratio = math.exp(float(now.logprobs[at] - targets.old_logprobs[at]))
        a = float(targets.advantages[at])
        policy.append(max(-a * ratio, -a * min(max(ratio, 0.8), 1.2)))
        v, old, target = float(now.values[at]), float(targets.old_values[at]), float(targets.returns[at])
        error = (v - target) ** 2
        if value_clip is not None:
            error = max(error, (min(max(v, old - value_clip), old + value_clip) - target) ** 2)
        value.append(0.5 * error)
        entropy.append(float(now.entropy[at]))
        clipped.append(abs(ratio - 1) > 0.2)
    n = len(policy)
    measures = UpdateStats()
    measures.begin_step(TokenCounts(n, n, 1))
    got = policy_loss(now, targets, settings, measures)
    got = got + value_loss(now.values, targets, settings, measures)
    assert float(got) == pytest.approx(sum(policy) + 0.1 * sum(value) - entropy_coef * sum(entropy), rel=1e-5)
    measures.end_step(1.5)
    metrics = measures.metrics()
    assert metrics["policy/loss"] == pytest.approx(sum(policy) / n, rel=1e-5)
    assert metrics["value/loss"] == pytest.approx(sum(value) / n, rel=1e-5)
    assert metrics["policy/entropy"] == pytest.approx(sum(entropy) / n, rel=1e-5)
    assert metrics["policy/clipfrac"] == pytest.approx(sum(clipped) / n)
    assert metrics["policy/approxkl"] > 0
    assert metrics["grad_norm"] == 1.5


def test_tokens_outside_the_masks_are_not_read() -> None:
    """P24: NaN outside the learnable tokens, and no gradient there."""
    settings = PPOSettings(entropy_coef=0.01)
    now, targets = example()
    policy_mask = targets.policy_mask
    measures = UpdateStats()
    measures.begin_step(TokenCounts.of(policy_mask, policy_mask))
    clean = policy_loss(now, targets, settings, measures)
    clean = clean + value_loss(now.values, targets, settings, measures)
    logprobs = torch.where(policy_mask, now.logprobs, torch.nan).requires_grad_()
    poisoned = PolicyOutputs(
        logprobs,
        torch.where(policy_mask, now.entropy, torch.nan),
        torch.where(policy_mask, now.values, torch.nan),
    )
    dirty = policy_loss(poisoned, targets, settings, measures)
    dirty = dirty + value_loss(poisoned.values, targets, settings, measures)
    dirty.backward()
    assert float(dirty.detach()) == float(clean)
    assert logprobs.grad is not None
    assert torch.equal(logprobs.grad[~policy_mask], torch.zeros(int((~policy_mask).sum())))
