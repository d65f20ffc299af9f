"""Properties 23–27 of a right PPO: advantages (docs/correctness.md)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from oracles import likely_to_end, move_policy, watched_step
from ppo_stage import ppo_config
from tiny import PAD, tiny_backbone
from torch import nn

from harken.batches import PolicyOutputs, collate
from harken.config.ppo import PPOSettings
from harken.models.roles import Policy, ScalarHead
from harken.train.ppo.stage import PPOStage
from harken.train.ppo.targets import compute_targets

MakeStage = Callable[..., PPOStage]


def by_linear_algebra(rewards: np.ndarray, values: np.ndarray, gamma: float, lam: float) -> np.ndarray:
    """A solves (I − γλN) A = r + γNV − V, with N the matrix that looks one token ahead."""
    ahead = np.eye(len(rewards), k=1)
    return np.linalg.solve(
        np.eye(len(rewards)) - gamma * lam * ahead, rewards + gamma * ahead @ values - values
    )


def test_property_23_gae_is_the_closed_form_and_returns_come_before_whitening(make_stage: MakeStage) -> None:
    """Every response of a real update, as one linear system. λ = γ = 1: A = Σ r − V. Returns are A + V, unwhitened."""
    for gamma, lam in ((1.0, 0.95), (0.9, 0.5), (1.0, 1.0)):
        stage = make_stage(ppo_config(ppo={"gamma": gamma, "lam": lam, "max_gen_len": 9}))
        move_policy(stage)
        likely_to_end(stage.policy.backbone, role="policy")
        seen = watched_step(stage)
        plain = []
        for row in range(len(seen.rollouts)):
            r, v = (seen.of_row(x, row).numpy() for x in (seen.targets.rewards, seen.old.values))
            plain.append(by_linear_algebra(r, v, gamma, lam))
            if gamma == lam == 1.0:
                np.testing.assert_allclose(plain[-1], r[::-1].cumsum()[::-1] - v, atol=1e-9)
            returns = seen.of_row(seen.targets.returns, row).numpy()
            np.testing.assert_allclose(returns, plain[-1] + v, atol=1e-4)
        together = np.concatenate(plain)
        assert len({len(p) for p in plain}) > 1
        whitened = (together - together.mean()) / together.std()
        used = seen.targets.advantages[seen.batch.response_mask].numpy()
        np.testing.assert_allclose(used, whitened, atol=1e-4)
    assert (PPOSettings().gamma, PPOSettings().lam) == (1.0, 0.95)


def test_property_24_padding_and_prompts_have_no_influence(make_stage: MakeStage) -> None:
    """Values, rewards and log-probabilities of 1e6, infinity and NaN there: the same credit, bit for bit.

    And through the model: an enormous embedding of the pad token changes nothing of an update.
    """
    draw = torch.Generator().manual_seed(4)
    response_mask = torch.zeros(3, 9, dtype=torch.bool)
    response_mask[0, 3:9], response_mask[1, 2:5], response_mask[2, 4:6] = True, True, True
    parts = [torch.randn(3, 9, generator=draw) for _ in range(4)]
    cut, reward = torch.tensor([True, False, False]), torch.tensor([1.0, -2.0, 0.5])
    for truncated in ("penalise", "bootstrap", "mask"):
        settings = PPOSettings(truncated=truncated)  # type: ignore[arg-type]
        clean = compute_targets(
            PolicyOutputs(*parts[:3], torch.ones(3)), parts[3], response_mask, cut, reward, 0.3, settings
        )
        for poison in (1e6, torch.inf, torch.nan):
            logprobs, entropy, values, reference = (
                torch.where(response_mask, part, poison) for part in parts
            )
            old = PolicyOutputs(logprobs, entropy, values, torch.where(cut, 1.0, poison))
            dirty = compute_targets(old, reference, response_mask, cut, reward, 0.3, settings)
            for name in ("advantages", "returns"):
                mine, theirs = (getattr(x, name)[response_mask] for x in (dirty, clean))
                assert torch.equal(mine, theirs)
            assert torch.equal(dirty.kl, clean.kl)
            assert torch.equal(dirty.rewards, clean.rewards)

    metrics = []
    for size in (1.0, 1e4):
        stage = make_stage(ppo_config(), folder=f"pad {size}")
        model = stage.policy.backbone.model
        model.lm_head.weight = nn.Parameter(model.lm_head.weight.clone(), requires_grad=False)
        with torch.no_grad():
            model.get_input_embeddings().weight[PAD] *= size
        seen = watched_step(stage)
        assert all(PAD not in r.response_tokens for r in seen.rollouts)
        assert not seen.batch.attention_mask.all()
        metrics.append({k: v for k, v in seen.metrics.items() if not k.startswith("time/")})
    assert metrics[0] == metrics[1]


def test_property_25_a_value_is_read_before_its_token() -> None:
    """V_t sees the tokens before t and no other: changing token t moves later values alone.

    In a chain whose every action pays what it is worth, a critic that knows it leaves no advantage at all.
    """
    policy = Policy(tiny_backbone(), None, ScalarHead(32, 0.3, seed=2))
    row = [5, 6, 7, 8, 9, 10, 11, 12]
    response_mask = [False, False, *[True] * 6]

    def values(tokens: list[int]) -> torch.Tensor:
        with torch.no_grad():
            return policy.evaluate(collate([tokens], [response_mask], PAD)).values[0]

    before = values(row)
    for t in range(2, len(row)):
        changed = values([*row[:t], 99, *row[t + 1 :]])
        same = torch.isclose(changed, before, atol=1e-7)
        assert same[: t + 1].all()
        assert not same[t + 1 :].any()

    # Token k pays 10^k; worth of the state before it: all that is still to come.
    pays = torch.tensor([[0.0, 1.0, 10.0, 100.0]])
    worth = torch.tensor([[0.0, 111.0, 110.0, 100.0]])
    sampled = torch.tensor([[False, True, True, True]])
    settings = PPOSettings(lam=0.5, whiten_advantages=False)
    # A KL of −pays at coefficient 1 is a reward of `pays` on each token; the score itself is 0.
    for critic, right in ((worth, True), (torch.roll(worth, -1, 1), False), (torch.roll(worth, 1, 1), False)):
        old = PolicyOutputs(-pays, pays, critic)
        got = compute_targets(
            old, torch.zeros(1, 4), sampled, torch.tensor([False]), torch.zeros(1), 1.0, settings
        )
        largest = float(got.advantages.abs().max())
        assert largest < 1e-4 if right else largest > 1.0


def test_property_26_advantages_have_mean_zero_over_the_whole_batch(make_stage: MakeStage) -> None:
    """One mean, one deviation for all responses of an update, however it is split into steps and forwards."""
    keys = {"minibatches": 3, "max_gen_len": 9, "prompts_per_update": 9}
    whole, split = (
        make_stage(ppo_config(micro_batch_tokens=budget, ppo=keys), folder=str(budget))
        for budget in (100_000, 40)
    )
    for stage in (whole, split):
        move_policy(stage)
        likely_to_end(stage.policy.backbone, role="policy")
    seen, again = watched_step(whole), watched_step(split)
    used = seen.targets.advantages[seen.batch.response_mask].double().numpy()
    assert used.mean() == pytest.approx(0.0, abs=1e-5)
    assert used.std() == pytest.approx(1.0, abs=1e-4)
    rows = [float(seen.of_row(seen.targets.advantages, i).mean()) for i in range(9)]
    assert max(abs(mean) for mean in rows) > 0.2
    torch.testing.assert_close(
        again.targets.advantages[again.batch.response_mask],
        seen.targets.advantages[seen.batch.response_mask],
        atol=1e-4,
        rtol=1e-4,
    )
    # What the mask leaves out has no part in the mean.
    padding = seen.targets.advantages[~seen.batch.response_mask]
    assert float(padding.abs().sum()) == 0.0


def test_property_27_the_deviation_is_the_biased_one(make_stage: MakeStage) -> None:
    """÷ n, as tf.nn.moments (docs/correctness.md tells of TRL's n − 1): with few tokens the two differ visibly."""
    keys = {"prompts_per_update": 2, "minibatches": 1, "max_gen_len": 3}
    stage, raw = (
        make_stage(ppo_config(ppo=keys | {"whiten_advantages": whiten}), folder=str(whiten))
        for whiten in (True, False)
    )
    for each in (stage, raw):
        move_policy(each)
    whitened, plain = watched_step(stage), watched_step(raw)
    response_mask = plain.batch.response_mask
    x = plain.targets.advantages[response_mask].double().numpy()
    got = whitened.targets.advantages[response_mask].double().numpy()
    assert len(x) == 6
    np.testing.assert_allclose(got, (x - x.mean()) / x.std(ddof=0), atol=1e-4)
    assert abs(got - (x - x.mean()) / x.std(ddof=1)).max() > 0.05
