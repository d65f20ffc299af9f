"""Credit: rewards, KL, GAE, returns and whitening, against a slow rewriting row by row in plain Python."""

from __future__ import annotations

import math

import pytest
import torch

from harken.batches import PolicyOutputs
from harken.config.ppo import PPOSettings
from harken.train.ppo.targets import compute_targets

B, T = 5, 12


def example(seed: int = 0) -> tuple[PolicyOutputs, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    response_mask = torch.zeros(B, T, dtype=torch.bool)
    for row, (start, end) in enumerate([(3, 8), (2, 12), (5, 6), (1, 4), (6, 11)]):
        response_mask[row, start:end] = True
    old = PolicyOutputs(*(torch.randn(B, T, generator=draw) for _ in range(3)))
    reference = torch.randn(B, T, generator=draw)
    truncated = torch.tensor([False, True, False, False, True])
    return old, reference, response_mask, truncated, torch.randn(B, generator=draw)


def by_hand(
    settings: PPOSettings, beta: float
) -> tuple[dict[tuple[int, int], float], dict[tuple[int, int], float]]:
    """Advantages (whitened as the settings say) and returns, one token at a time."""
    old, reference, response_mask, truncated, reward = example()
    advantages, returns = {}, {}
    for row in range(B):
        places = [t for t in range(T) if response_mask[row, t]]
        r = [-beta * float(old.logprobs[row, t] - reference[row, t]) for t in places]
        r[-1] += float(reward[row])
        v = [*(float(old.values[row, t]) for t in places), 0.0]
        deltas = [r[i] + settings.gamma * v[i + 1] - v[i] for i in range(len(places))]
        for i, t in enumerate(places):
            advantages[row, t] = sum(
                (settings.gamma * settings.lam) ** k * d for k, d in enumerate(deltas[i:])
            )
            returns[row, t] = advantages[row, t] + v[i]
    if settings.whitens:
        use = [
            a for (row, _), a in advantages.items() if not (settings.truncated == "mask" and truncated[row])
        ]
        mean = sum(use) / len(use)
        spread = math.sqrt(sum((a - mean) ** 2 for a in use) / len(use))
        advantages = {place: (a - mean) / spread for place, a in advantages.items()}
    return advantages, returns


@pytest.mark.parametrize("truncated", ["penalise", "mask"])
@pytest.mark.parametrize("whiten", [True, False])
def test_credit_equals_the_definition(truncated: str, whiten: bool) -> None:
    """P15, P16, P23, P26: EOS step, sign of KL, returns before whitening, whole-batch mean removed."""
    settings = PPOSettings(truncated=truncated, whiten_advantages=whiten, gamma=0.97, lam=0.9)
    old, reference, response_mask, cut, reward = example()
    got = compute_targets(old, reference, response_mask, cut, reward, 0.3, settings)
    advantages, returns = by_hand(settings, 0.3)
    for (row, t), want in returns.items():
        assert float(got.returns[row, t]) == pytest.approx(want, abs=1e-5)
        masked = truncated == "mask" and bool(cut[row])
        assert bool(got.policy_mask[row, t]) is not masked
        if not masked:
            assert float(got.advantages[row, t]) == pytest.approx(advantages[row, t], abs=1e-5)


def test_positions_outside_the_response_mask_are_never_read() -> None:
    """P24: prompt and padding poisoned with NaN give the same credit."""
    settings = PPOSettings()
    old, reference, response_mask, truncated, reward = example()
    clean = compute_targets(old, reference, response_mask, truncated, reward, 0.3, settings)
    poison = PolicyOutputs(
        *(torch.where(response_mask, part, torch.nan) for part in (old.logprobs, old.entropy, old.values))
    )
    dirty = compute_targets(
        poison,
        torch.where(response_mask, reference, torch.nan),
        response_mask,
        truncated,
        reward,
        0.3,
        settings,
    )
    for name in ("advantages", "returns"):
        a, b = getattr(clean, name)[response_mask], getattr(dirty, name)[response_mask]
        assert torch.equal(a, b)
    assert float(dirty.kl.sum()) == pytest.approx(float(clean.kl.sum()))


def test_kl_is_counted_on_response_tokens_alone() -> None:
    """P16: prompt tokens carry no KL."""
    old, reference, response_mask, truncated, reward = example()
    got = compute_targets(old, reference, response_mask, truncated, reward, 0.3, PPOSettings())
    assert torch.equal(got.kl[~response_mask], torch.zeros(int((~response_mask).sum())))
    assert torch.allclose(got.kl[response_mask], (old.logprobs - reference)[response_mask])
