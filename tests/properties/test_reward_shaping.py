"""Properties 15–22 of a right PPO: from a score to the rewards of tokens (docs/correctness.md)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from make_targets import make_targets
from oracles import alone, likely_to_end, move_policy, parameters, restore, watched_step
from ppo_stage import ppo_config
from pydantic import ValidationError
from tiny import END, tiny_tokenizer

from harken.batches import PolicyOutputs
from harken.config.ppo import PPOSettings
from harken.data.chat import Renderer
from harken.maths.kl import ESTIMATORS
from harken.models.resolve import resolve
from harken.models.roles import RewardModel
from harken.reward.learned import LearnedReward
from harken.reward.rules import penalties
from harken.train.ppo.loss import UpdateStats, policy_loss
from harken.train.ppo.minibatch import TokenCounts
from harken.train.ppo.stage import PPOStage
from harken.train.ppo.targets import compute_targets

MakeStage = Callable[..., PPOStage]


def test_property_15_the_score_is_paid_on_the_last_sampled_token(make_stage: MakeStage) -> None:
    """While the policy is its reference no KL is due: a row's one payment is its score, on the end token."""
    stage = make_stage(ppo_config(ppo={"max_gen_len": 10, "prompts_per_update": 10}))
    likely_to_end(stage.policy.backbone)
    seen = watched_step(stage)
    assert {r.stop for r in seen.rollouts} == {"end_of_turn", "length"}
    for row, rollout in enumerate(seen.rollouts):
        last = len(rollout.prompt_tokens) + len(rollout.response_tokens) - 1
        paid = seen.targets.rewards[row]
        score = stage.reward_sources[0].score([rollout])[0].value
        assert float(paid[last]) == pytest.approx(score, abs=1e-5)
        assert float(paid.abs().sum()) == pytest.approx(score, abs=1e-4)
        if rollout.stop == "end_of_turn":
            assert int(seen.batch.tokens[row, last]) == END


def test_property_16_each_response_token_pays_for_its_kl(make_stage: MakeStage) -> None:
    """−β(log π_old − log π_ref), never clamped, on response tokens alone; a response's total is score − β Σ KL."""
    stage = make_stage(ppo_config(ppo={"kl_coef": 0.3}))
    move_policy(stage)
    before = parameters(stage)
    seen = watched_step(stage)
    restore(stage, before)
    backbone, negative, sums = stage.policy.backbone, 0, []
    for row, rollout in enumerate(seen.rollouts):
        kl = alone(backbone, rollout, role="policy").logprobs - alone(backbone, rollout).logprobs
        wanted = -0.3 * kl
        wanted[-1] += stage.reward_sources[0].score([rollout])[0].value  # type: ignore[operator]
        torch.testing.assert_close(seen.of_row(seen.targets.rewards, row), wanted, atol=2e-5, rtol=1e-4)
        assert float(seen.targets.rewards[row][~seen.batch.response_mask[row]].abs().sum()) == 0.0
        negative += int((kl < 0).sum())
        sums.append(float(kl.sum()))
    assert negative > 5
    assert seen.metrics["kl/mean"] == pytest.approx(sum(sums) / len(sums), abs=1e-4)


def test_property_17_estimators_and_their_gradients() -> None:
    """By enumeration of a vocabulary: k1 and k3 have the KL as mean, k2 its gradient; k1 and k3 do not.

    So k1 penalises the reward by default, and only k2 and the exact KL may stand in the loss.
    """
    draw = torch.Generator().manual_seed(3)
    logits = torch.randn(9, generator=draw, dtype=torch.float64).requires_grad_()
    log_q = torch.log_softmax(torch.randn(9, generator=draw, dtype=torch.float64), -1)
    log_p = torch.log_softmax(logits, -1)
    p = log_p.exp().detach()
    exact = (log_p.exp() * (log_p - log_q)).sum()
    (gradient,) = torch.autograd.grad(exact, logits, retain_graph=True)
    means, slopes = {}, {}
    for name, estimator in ESTIMATORS.items():
        mean = (p * estimator(log_p, log_q)).sum()  # samples of the policy: the weights carry no gradient
        means[name] = float(mean.detach())
        (slopes[name],) = torch.autograd.grad(mean, logits, retain_graph=True)
    for name in ("k1", "k3"):
        assert means[name] == pytest.approx(float(exact.detach()), abs=1e-12)
        assert (slopes[name] - gradient).abs().max() > 0.05
    assert slopes["k1"].abs().max() < 1e-12
    torch.testing.assert_close(slopes["k2"], gradient, atol=1e-12, rtol=1e-12)
    assert means["k2"] != pytest.approx(float(exact.detach()), abs=1e-3)
    assert means["abs"] > float(exact.detach())

    assert PPOSettings().kl_estimator == "k1"
    assert PPOSettings().kl_in == "reward"
    for wrong in ("k1", "k3", "abs"):
        with pytest.raises(ValidationError, match="has the wrong gradient"):
            PPOSettings(kl_in="loss", kl_estimator=wrong)  # type: ignore[arg-type]

    # The loss of the stage itself: tokens drawn from p, advantage 0, so that only the KL penalty is left.
    tokens = torch.multinomial(p, 40_000, replacement=True, generator=draw)
    now = log_p[tokens][None]
    zero = torch.zeros_like(now).detach()
    settings = PPOSettings(kl_in="loss", kl_estimator="k2")
    measures = UpdateStats()
    measures.begin_step(TokenCounts(len(tokens), 0, 1))
    kl_penalty = ESTIMATORS[settings.kl_estimator](now, log_q[tokens][None])
    loss = policy_loss(
        PolicyOutputs(now, zero, zero),
        make_targets(now.detach(), zero, zero, zero, torch.ones_like(now, dtype=torch.bool)),
        settings, measures, kl_penalty,
    )  # fmt: skip
    (slope,) = torch.autograd.grad(loss / len(tokens), logits)
    assert (slope - gradient).abs().max() < 0.02


def test_property_18_the_controller_sees_nats_per_sequence(make_stage: MakeStage) -> None:
    """β ← β (1 + clip(KL/target − 1, ±0.2) · n/h), KL the mean over responses of the sum over their tokens."""
    for target, wanted in ((1e-6, 1.2), (1e6, 0.8), (None, None)):
        # `kl_target` None: one that lies within the clip, from the KL that a first look finds.
        keys = {"kl_control": "adaptive", "kl_coef": 0.3, "kl_horizon": 12.0}
        look = make_stage(ppo_config(ppo=keys))
        move_policy(look)
        seen = watched_step(look)
        sums = [float(seen.of_row(seen.targets.kl, row).sum()) for row in range(len(seen.rollouts))]
        nats = sum(sums) / len(sums)
        assert nats > 1.0
        stage = make_stage(ppo_config(ppo=keys | {"kl_target": target or nats / 1.1}))
        move_policy(stage)
        seen = watched_step(stage)
        assert seen.coefficient == 0.3
        error = (wanted or 1.1) - 1
        assert stage.kl.coefficient.value == pytest.approx(0.3 * (1 + error * 6 / 12), rel=1e-4)
        after = stage.kl.coefficient.value
        assert watched_step(stage, 1).coefficient == after


def test_property_19_the_score_is_clipped_before_the_kl(trained_reward: Any, make_stage: MakeStage) -> None:
    """clip(score) · weight − β Σ KL: the clip holds the reward model's score alone, whatever the rest adds up to."""
    clip, weight, beta = 0.2, 2.0, 5.0
    model = RewardModel.load(resolve(str(trained_reward.run)), torch.float32, "cpu")
    settings = {"kl_coef": beta, "length_penalty": 0.5}
    stage = make_stage(ppo_config(ppo=settings))
    learned = LearnedReward(model, Renderer(tiny_tokenizer()), weight, clip)
    stage.reward_sources = [learned, *penalties(stage.settings)]
    move_policy(stage)
    seen = watched_step(stage)
    outside = 0
    for row, rollout in enumerate(seen.rollouts):
        raw = model.raw_scores([[*rollout.prompt_tokens, *rollout.response_tokens]], 1000)[0]
        score = (raw - model.offset) * model.scale
        outside += abs(score) > clip
        kl = float(seen.of_row(seen.old.logprobs - seen.reference, row).sum())
        wanted = weight * max(-clip, min(clip, score)) - 0.5 * len(rollout.response_tokens) - beta * kl
        total = float(seen.of_row(seen.targets.rewards, row).sum())
        assert total == pytest.approx(wanted, rel=1e-4, abs=1e-3)
        assert abs(total) > clip * weight
    assert outside > 2


def test_property_20_a_response_without_its_end_scores_less(run_with_reward: MakeStage) -> None:
    """For truncated responses, subtract p from the reward model's score, or replace it by c. The rate is reported."""
    for keys, truncated_score in (
        ({"missing_eos_penalty": 0.7}, lambda score: score - 0.7),
        ({"missing_eos_score": -3.0}, lambda score: -3.0),
        ({"missing_eos_penalty": 0.0}, lambda score: score),
    ):
        stage = run_with_reward(kl_coef=0.5, max_gen_len=10, prompts_per_update=12, **keys)
        likely_to_end(stage.policy.backbone, step=4.5)
        seen = watched_step(stage)
        learned = next(source for source in stage.reward_sources if isinstance(source, LearnedReward))
        stops = [r.stop for r in seen.rollouts]
        assert set(stops) == {"end_of_turn", "length"}
        assert seen.metrics["response/cap_hit"] == stops.count("length") / len(stops)
        sequences = [[*r.prompt_tokens, *r.response_tokens] for r in seen.rollouts]
        for row, raw in enumerate(learned.model.raw_scores(sequences, 4096)):
            score = learned.model.standardize(raw)
            wanted = truncated_score(score) if stops[row] == "length" else score
            # Policy and reference are still one: the rewards of the tokens add up to the score.
            paid = float(seen.of_row(seen.targets.rewards, row).sum())
            assert paid == pytest.approx(wanted, abs=1e-4)


def test_property_21_rewards_are_never_whitened(make_stage: MakeStage) -> None:
    """Ten times the reward is ten times the return, and a constant in the reward stays one; there is no such key."""
    with pytest.raises(ValidationError, match="Extra inputs"):
        ppo_config(ppo={"whiten_rewards": True})
    returns = {}
    for name, rule in (
        ("once", lambda r: 0.3),
        ("tenfold", lambda r: 3.0),
        ("mixed", lambda r: float(r.sample)),
    ):
        stage = make_stage(ppo_config(ppo={"kl_coef": 0.0}), rule=rule)
        seen = watched_step(stage)
        returns[name] = seen.targets.returns[seen.batch.response_mask]
    # The critic is zero at first, so every return is the response's reward, discounted by (γλ)^(T − t).
    torch.testing.assert_close(returns["tenfold"], 10 * returns["once"])
    assert float(returns["once"].max()) == pytest.approx(0.3)
    assert float(returns["once"].min()) > 0.0
    assert float(returns["mixed"].abs().max()) == 0.0


def test_property_22_the_treatment_of_truncated_responses_is_explicit(make_stage: MakeStage) -> None:
    """penalise: no value behind its last token. bootstrap: V of the state it was truncated at, in place of the score.
    mask: no loss, and no part in the whitening. Ended responses: the same in all three.
    """
    response_mask = torch.tensor([[False, True, True, True], [False, True, True, True]])
    truncated = torch.tensor([True, False])
    values = torch.tensor([[9.0, 1.0, 2.0, 3.0], [9.0, -1.0, 0.5, 1.0]])
    final = torch.tensor([7.0, 1e6])
    old = PolicyOutputs(torch.zeros(2, 4), torch.zeros(2, 4), values, final)
    reward = torch.tensor([10.0, 4.0])

    def credit(**keys: object) -> object:
        settings = PPOSettings(gamma=0.9, lam=1.0, whiten_advantages=False, **keys)  # type: ignore[arg-type]
        return compute_targets(old, torch.zeros(2, 4), response_mask, truncated, reward, 0.1, settings)

    penalised, bootstrapped, masked = (credit(truncated=t) for t in ("penalise", "bootstrap", "mask"))
    # λ = 1: the return of token t is what is still paid, discounted.
    assert penalised.returns[0, 1:].tolist() == pytest.approx([8.1, 9.0, 10.0])
    assert bootstrapped.returns[0, 1:].tolist() == pytest.approx([0.9**3 * 7, 0.9**2 * 7, 0.9 * 7])
    for got in (penalised, bootstrapped, masked):
        assert got.returns[1, 1:].tolist() == pytest.approx([3.24, 3.6, 4.0])
    assert masked.policy_mask.tolist() == [[False] * 4, response_mask[1].tolist()]
    assert masked.value_mask.tolist() == masked.policy_mask.tolist()
    assert torch.equal(penalised.policy_mask, response_mask)
    assert torch.equal(bootstrapped.policy_mask, response_mask)
    settings = PPOSettings(truncated="mask", lam=1.0)
    whitened = compute_targets(
        old, torch.zeros(2, 4), response_mask, truncated, reward, 0.1, settings
    ).advantages
    left = np.array([4.0 - v for v in (-1.0, 0.5, 1.0)])
    assert whitened[1, 1:].tolist() == pytest.approx(((left - left.mean()) / left.std()).tolist(), abs=1e-5)
    assert penalties(PPOSettings(truncated="bootstrap", missing_eos_penalty=1.0)) == []
    assert penalties(PPOSettings(truncated="mask", missing_eos_penalty=1.0)) == []

    stage = make_stage(ppo_config(ppo={"truncated": "bootstrap", "kl_coef": 0.5, "whiten_advantages": False}))
    move_policy(stage)
    before, head = parameters(stage), stage.policy.value_head
    seen = watched_step(stage)
    restore(stage, before)
    assert {r.stop for r in seen.rollouts} == {"length"}
    for row, rollout in enumerate(seen.rollouts):
        policy = alone(stage.policy.backbone, rollout, role="policy", head=head)
        kl = policy.logprobs - alone(stage.policy.backbone, rollout).logprobs
        last = -0.5 * float(kl[-1]) + policy.final
        assert float(seen.of_row(seen.targets.returns, row)[-1]) == pytest.approx(last, abs=1e-4)
