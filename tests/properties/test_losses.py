"""Properties 28–32 of a right PPO: losses and what is measured of them (docs/correctness.md)."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import pytest
import torch
from make_targets import make_targets
from oracles import Gradients, Seen, alone, likely_to_end, move_policy, parameters, restore, watched_step
from ppo_stage import ppo_config

from harken.batches import PolicyOutputs
from harken.config.ppo import PPOSettings
from harken.models.backbone import Backbone
from harken.train.ppo.loss import UpdateStats, policy_loss, value_loss
from harken.train.ppo.minibatch import TokenCounts
from harken.train.ppo.stage import PPOStage

MakeStage = Callable[..., PPOStage]


def reinforce(backbone: Backbone, seen: Seen) -> dict[str, torch.Tensor]:
    """−(1/N) Σ A ∇ log π over all sampled tokens, one unpadded response at a time through transformers' own forward."""
    count = int(seen.batch.response_mask.sum())
    with backbone.role("policy"):
        for row, rollout in enumerate(seen.rollouts):
            tokens = torch.tensor([[*rollout.prompt_tokens, *rollout.response_tokens]])
            first = len(rollout.prompt_tokens)
            logits = backbone.model(input_ids=tokens, use_cache=False).logits[0, first - 1 : -1]
            log_p = torch.log_softmax(logits, -1).gather(-1, tokens[0, first:, None])[:, 0]
            advantages = seen.of_row(seen.targets.advantages, row).float()
            (-(advantages * log_p).sum() / count).backward()
    found = {}
    for name, parameter in backbone.adapter_parameters("policy").items():
        assert parameter.grad is not None
        found[name] = parameter.grad.clone()
        parameter.grad = None
    return found


def test_property_28_the_first_step_is_reinforce(make_stage: MakeStage) -> None:
    """Ratio 1, KL(old‖new) 0, nothing clipped; the gradient is REINFORCE's, taken apart from all of Harken's losses."""
    config = ppo_config(ppo={"epochs": 1, "minibatches": 1, "vf_coef": 0.0, "max_gen_len": 9})
    stage = make_stage(config)
    move_policy(stage)
    likely_to_end(stage.policy.backbone, role="policy")
    caught = Gradients(stage)
    seen = watched_step(stage)
    assert seen.metrics["policy/first_ratio_gap"] < 1e-5
    assert abs(seen.metrics["policy/approxkl"]) < 1e-8
    assert seen.metrics["policy/clipfrac"] == 0.0
    wanted = reinforce(stage.policy.backbone, seen)
    (got,) = caught.steps
    largest = max(float(g.abs().max()) for g in wanted.values())
    assert largest > 1e-3
    for name, gradient in wanted.items():
        torch.testing.assert_close(got[name], gradient, atol=1e-4 * largest, rtol=1e-3)


def one_token(
    logprob: float, old: float, advantage: float, **keys: float
) -> tuple[float, float, dict[str, float]]:
    """Loss, its gradient in the log-probability, and the metrics, of one token beside an empty place."""
    logprobs = torch.tensor([[logprob, math.nan]], dtype=torch.float64, requires_grad=True)
    zero, mask = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([[True, False]])
    targets = make_targets(zero + old, zero, zero + advantage, zero, mask)
    measures = UpdateStats()
    measures.begin_step(TokenCounts(1, 1, 1))
    loss = policy_loss(PolicyOutputs(logprobs, zero, zero), targets, PPOSettings(**keys), measures)  # type: ignore[arg-type]
    (slope,) = torch.autograd.grad(loss, logprobs)
    measures.end_step(0.0)
    return float(loss.detach()), float(slope[0, 0]), measures.metrics()


def test_property_29_the_policy_loss_is_clipped_from_the_losing_side() -> None:
    """max(−Aρ, −A clip(ρ, 1 − ε, 1 + ε')): no gradient once a gain is outside, the whole gradient of a loss.

    Log-ratios of ±1,000 stay finite: they are held at ±20.
    """
    for delta, advantage, high in product((-0.5, -0.1, 0.0, 0.1, 0.25, 0.5), (-2.0, 3.0), (None, 0.4)):
        keys = {} if high is None else {"clip_range_high": high}
        loss, slope, metrics = one_token(-1.0 + delta, -1.0, advantage, **keys)
        ratio, upper = math.exp(delta), 1.2 if high is None else 1.4
        gained = ratio > upper if advantage > 0 else ratio < 0.8
        held = upper if ratio > upper else 0.8 if ratio < 0.8 else ratio
        assert loss == pytest.approx(-advantage * (held if gained else ratio))
        assert slope == pytest.approx(0.0 if gained else -advantage * ratio)
        assert metrics["policy/clipfrac"] == float(ratio > upper or ratio < 0.8)
    for delta in (30.0, 1000.0, -1000.0):
        for advantage in (-1.0, 1.0):
            loss, slope, _ = one_token(delta, 0.0, advantage)
            assert math.isfinite(loss)
            assert abs(loss) <= math.exp(20) * 1.001
            assert slope == pytest.approx(0.0)


def test_property_30_the_value_loss_is_clipped_around_the_old_value() -> None:
    """½ max((V − R)², (clip(V, V_old ± ε) − R)²) × 0.1, by cases: in reach, moved towards R too far, moved away."""
    settings = PPOSettings()
    assert (settings.vf_coef, settings.value_clip_range) == (0.1, 0.2)
    mask = torch.tensor([[True, False]])
    for value, old, target in product((-1.0, -0.1, 0.0, 0.15, 0.3, 2.0), (0.0,), (-2.0, 0.1, 1.0)):
        values = torch.tensor([[value, math.nan]], dtype=torch.float64, requires_grad=True)
        empty = torch.zeros(1, 2, dtype=torch.float64)
        measures = UpdateStats()
        measures.begin_step(TokenCounts(1, 1, 1))
        targets = make_targets(empty, empty + old, empty, empty + target, mask)
        loss = value_loss(values, targets, settings, measures)
        held = min(max(value, old - 0.2), old + 0.2)
        wanted = 0.1 * 0.5 * max((value - target) ** 2, (held - target) ** 2)
        assert float(loss.detach()) == pytest.approx(wanted)
        (slope,) = torch.autograd.grad(loss, values)
        too_far = abs(held - target) > abs(value - target)
        assert float(slope[0, 0]) == pytest.approx(0.0 if too_far else 0.1 * (value - target))
        assert float(slope[0, 1]) == 0.0


def test_property_31_the_gradient_of_a_step_does_not_depend_on_its_split(make_stage: MakeStage) -> None:
    """One forward or one for each response, of very different lengths: the same gradient, sums ÷ the step's count.

    The mean of micro-batch means, which many trainers take, is another gradient on the same responses.
    """

    def gradients(budget: int) -> tuple[Seen, list[dict[str, torch.Tensor]]]:
        keys = {"epochs": 1, "minibatches": 1, "max_gen_len": 16, "prompts_per_update": 8}
        stage = make_stage(ppo_config(micro_batch_tokens=budget, ppo=keys), folder=f"{budget}")
        move_policy(stage)
        likely_to_end(stage.policy.backbone, role="policy")
        caught = Gradients(stage)
        return watched_step(stage), caught.steps

    (seen, (whole,)), (_, (split,)) = gradients(100_000), gradients(1)
    lengths = [len(r.response_tokens) for r in seen.rollouts]
    assert max(lengths) > 2 * min(lengths)
    largest = max(float(g.abs().max()) for g in whole.values())
    for name, gradient in whole.items():
        torch.testing.assert_close(split[name], gradient, atol=1e-4 * largest, rtol=1e-3)

    count = sum(lengths)
    advantages = [float(seen.of_row(seen.targets.advantages, i).sum()) for i in range(len(lengths))]
    means = sum(a / n for a, n in zip(advantages, lengths, strict=True)) / len(lengths)
    assert seen.metrics["policy/loss"] == pytest.approx(-sum(advantages) / count, abs=1e-4)
    assert abs(means - sum(advantages) / count) > 1e-2


def test_property_32_metrics_ignore_padding(make_stage: MakeStage) -> None:
    """Entropy, KL, ratio and values of an update with much padding, against unpadded rows: signs and numbers."""
    stage = make_stage(
        ppo_config(ppo={"max_gen_len": 16, "prompts_per_update": 8, "epochs": 1, "minibatches": 1})
    )
    move_policy(stage)
    likely_to_end(stage.policy.backbone, role="policy")
    before, backbone, head = parameters(stage), stage.policy.backbone, stage.policy.value_head
    seen = watched_step(stage)
    restore(stage, before)
    assert float(seen.batch.attention_mask.float().mean()) < 0.9
    policy = [alone(backbone, r, role="policy", head=head) for r in seen.rollouts]
    kl = [p.logprobs - alone(backbone, r).logprobs for p, r in zip(policy, seen.rollouts, strict=True)]
    tokens = torch.cat(kl)
    metrics = seen.metrics
    assert metrics["policy/entropy"] == pytest.approx(
        float(torch.cat([p.entropy for p in policy]).mean()), rel=1e-4
    )
    assert metrics["policy/entropy"] > 0
    assert metrics["kl/per_token"] == pytest.approx(float(tokens.mean()), abs=1e-4)
    assert metrics["kl/mean"] == pytest.approx(float(tokens.sum()) / len(kl), abs=1e-3)
    assert metrics["kl/mean"] > 0
    assert metrics["kl/k3_per_token"] == pytest.approx(
        float((torch.exp(-tokens) - 1 + tokens).mean()), rel=1e-3
    )
    assert metrics["value/mean"] == pytest.approx(
        float(torch.cat([p.values for p in policy]).mean()), abs=1e-4
    )
    assert metrics["sampler/logprob_gap"] < 1e-5
    assert metrics["policy/ratio_gap_max"] < 1e-5
    assert metrics["response/tokens_mean"] == len(tokens) / len(kl)
    returns = torch.cat([seen.of_row(seen.targets.returns, i) for i in range(len(kl))])
    values = torch.cat([p.values for p in policy])
    explained = 1 - float((returns - values).var(correction=0) / returns.var(correction=0))
    assert metrics["value/explained_var"] == pytest.approx(explained, abs=1e-3)
