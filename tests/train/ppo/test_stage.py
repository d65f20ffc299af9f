"""PPO's update on a tiny model in float32: the properties that hold for any right PPO."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from make_targets import make_targets
from ppo_stage import ppo_config, share_of_low_tokens
from torch import Tensor

from harken.batches import PolicyOutputs, TokenBatch
from harken.models.roles import Policy, fingerprint_tensors
from harken.run.tables import read_rows
from harken.train.ppo.loss import UpdateStats, policy_loss
from harken.train.ppo.minibatch import TokenCounts
from harken.train.ppo.stage import PPOStage

MakeStage = Callable[..., PPOStage]


def trained(stage: PPOStage) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in stage.learner.optimisers["policy"].parameters.items()}


def test_the_first_minibatch_has_ratio_one_and_no_kl(make_stage: MakeStage) -> None:
    """P28: old log-probabilities come from the training forward, so the first ratio is 1 to 1e-5.

    In micro-batches, of which all but one are forwarded again.
    """
    stage = make_stage(ppo_config(micro_batch_tokens=40))
    for number in range(2):
        assert stage.step(number)["policy/first_ratio_gap"] < 1e-5


@pytest.mark.parametrize("temperature", [0.6, 1.7])
def test_sampled_and_scored_logprobs_agree_at_any_temperature(
    make_stage: MakeStage, temperature: float
) -> None:
    """P5, P6: trainer's and sampler's log-probabilities agree, so the policy is scored as it sampled."""
    metrics = make_stage(ppo_config(ppo={"temperature": temperature})).step(0)
    assert metrics["sampler/logprob_gap"] < 1e-4
    assert metrics["policy/first_ratio_gap"] < 1e-5
    assert metrics["kl/k3_mean"] == pytest.approx(0.0, abs=1e-6)  # the reference too


def test_one_step_on_policy_is_the_policy_gradient(make_stage: MakeStage) -> None:
    """P28: at ratio 1 the gradient of the clipped loss is −A ∇log π (REINFORCE), value loss and entropy apart."""
    config = ppo_config(ppo={"epochs": 1, "minibatches": 1, "vf_coef": 0.0})
    stage = make_stage(config)
    rollouts = stage._generate(0)
    batch = stage._collate(rollouts)
    with stage.policy.backbone.role("policy"):
        now = stage.policy.evaluate(batch)
        draw = torch.Generator().manual_seed(0)
        advantages = torch.randn(batch.tokens.shape, generator=draw)
        (-(advantages * now.logprobs)[batch.response_mask].sum()).backward()
    wanted = [
        p.grad.clone() for p in stage.learner.optimisers["policy"].parameters.values() if p.grad is not None
    ]
    stage.learner.optimisers["policy"]._adam.zero_grad()
    measures = UpdateStats()
    measures.begin_step(TokenCounts(int(batch.response_mask.sum()), 0, 1))
    with stage.policy.backbone.role("policy"):
        now = stage.policy.evaluate(batch)
        targets = make_targets(
            now.logprobs.detach(), now.values.detach(), advantages, advantages, batch.response_mask
        )
        policy_loss(now, targets, stage.settings, measures).backward()
    got = [p.grad for p in stage.learner.optimisers["policy"].parameters.values() if p.grad is not None][
        : len(wanted)
    ]
    assert wanted
    for a, b in zip(wanted, got, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("budget", [40, 100])
def test_the_split_into_micro_batches_changes_nothing(make_stage: MakeStage, budget: int) -> None:
    """P31: the loss of an optimiser step is a sum over tokens ÷ the step's count."""
    whole = make_stage(ppo_config(micro_batch_tokens=100_000))
    split = make_stage(ppo_config(micro_batch_tokens=budget))
    a, b = whole.step(0), split.step(0)
    for name in ("policy/loss", "value/loss", "grad_norm", "policy/entropy", "kl/mean"):
        assert a[name] == pytest.approx(b[name], rel=1e-4, abs=1e-6)
    mine, theirs = trained(whole), trained(split)
    assert all(torch.allclose(mine[name], theirs[name], atol=2e-5) for name in mine)


def test_padding_and_prompt_cannot_reach_the_loss(make_stage: MakeStage) -> None:
    """P24, P32: NaN wherever no token was sampled leaves update and metrics as they are."""
    clean, poisoned = make_stage(ppo_config()), make_stage(ppo_config())
    evaluator = poisoned.evaluator
    evaluate, logprobs = evaluator.old_logprobs_and_values, evaluator.logprobs

    def poison(batch: TokenBatch, first: Sequence[int], *, keep_graph: bool) -> PolicyOutputs:
        got = evaluate(batch, first, keep_graph=keep_graph)
        parts = (got.logprobs, got.entropy, got.values)
        return PolicyOutputs(
            *(torch.where(batch.response_mask, p, torch.nan) for p in parts), got.final_values
        )

    def poison_reference(policy: Policy, batch: TokenBatch) -> torch.Tensor:
        return torch.where(batch.response_mask, logprobs(policy, batch), torch.nan)

    evaluator.old_logprobs_and_values = poison  # type: ignore[method-assign]
    evaluator.logprobs = poison_reference  # type: ignore[method-assign]
    a, b = clean.step(0), poisoned.step(0)
    timing = {name for name in a if name.startswith("time/")}
    assert {k: v for k, v in a.items() if k not in timing} == {k: v for k, v in b.items() if k not in timing}
    mine, theirs = trained(clean), trained(poisoned)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_frozen_means_frozen_and_the_policy_moves(make_stage: MakeStage) -> None:
    """P37, S0-13: not a bit of the base changes; adapter and value head do."""
    stage = make_stage(ppo_config())
    base = [p for n, p in stage.policy.backbone.model.named_parameters() if "lora_" not in n]
    before, start = fingerprint_tensors(base), trained(stage)
    stage.step(0)
    assert fingerprint_tensors(base) == before
    moved = {name for name, tensor in trained(stage).items() if not torch.equal(tensor, start[name])}
    assert any("lora_B" in name for name in moved)
    assert "value_head.weight" in moved


def test_metrics_by_hand(make_stage: MakeStage) -> None:
    """S4-36…38, P32: reward, KL per sequence and per token, entropy, lengths, from the recorded rollouts."""
    stage = make_stage(ppo_config())
    stage.step(0)
    metrics = stage.step(1)
    rows = read_rows(stage.recorder.run.rollouts / "update-000002.parquet")
    rewards = [row["reward"] for row in rows]
    lengths = [len(row["response_tokens"]) for row in rows]
    assert metrics["reward/mean"] == pytest.approx(sum(rewards) / len(rewards), abs=1e-6)
    assert metrics["response/tokens_mean"] == pytest.approx(sum(lengths) / len(lengths))
    assert metrics["response/cap_hit"] == sum(row["stop"] == "length" for row in rows) / len(rows)
    assert metrics["kl/mean"] == pytest.approx(
        metrics["kl/per_token"] * sum(lengths) / len(lengths), rel=1e-5
    )
    assert metrics["kl/k3_mean"] >= 0
    assert 0 < metrics["policy/entropy"] < torch.log(torch.tensor(259.0))
    assert metrics["sampler/logprob_gap"] < 1e-4
    assert metrics["update/optimiser_steps"] == 4
    assert metrics["score/rule"] == pytest.approx(metrics["reward/mean"])


def test_the_first_update_has_no_kl_to_the_reference(make_stage: MakeStage) -> None:
    """S0-27: policy and reference start as the same model."""
    stage = make_stage(ppo_config())
    assert stage.step(0)["kl/mean"] == pytest.approx(0.0, abs=1e-5)
    assert stage.step(1)["kl/mean"] != 0.0


def test_truncated_responses_can_be_left_out(make_stage: MakeStage) -> None:
    """P22: with `mask` an update of truncated responses alone takes no optimiser step."""
    stage = make_stage(ppo_config(ppo={"truncated": "mask", "max_gen_len": 1}))
    start = trained(stage)
    metrics = stage.step(0)
    if metrics["response/cap_hit"] == 1.0:
        assert metrics["update/optimiser_steps"] == 0
        assert all(torch.equal(tensor, start[name]) for name, tensor in trained(stage).items())
    else:
        assert metrics["update/optimiser_steps"] > 0


def test_target_kl_stops_an_update_early(make_stage: MakeStage) -> None:
    stage = make_stage(ppo_config(lr=0.05, ppo={"epochs": 4, "target_kl_per_token": 1e-6}))
    metrics = stage.step(0)
    assert metrics["update/stopped_early"] == 1.0
    assert metrics["update/optimiser_steps"] < 8


def test_adaptive_control_moves_the_coefficient_within_bounds(make_stage: MakeStage) -> None:
    """P18, S4-33, S4-34: β · (1 + clip(KL/target − 1, ±0.2) · n/horizon), nats per sequence, then the bounds."""
    settings = {
        "kl_control": "adaptive",
        "kl_target": 1e-9,
        "kl_horizon": 6.0,
        "kl_coef": 0.5,
        "kl_coef_max": 0.55,
    }
    stage = make_stage(ppo_config(lr=0.02, ppo=settings))
    stage.kl.coefficient.value = 0.4
    stage.kl.coefficient.adapt(10.0, sequences=6)
    assert stage.kl.coefficient.value == pytest.approx(0.4 * 1.2)
    stage.kl.coefficient.adapt(10.0, sequences=6)
    assert stage.kl.coefficient.value == 0.55
    stage.kl.coefficient.adapt(0.0, sequences=3)
    assert stage.kl.coefficient.value == pytest.approx(0.55 * 0.9)


def test_resumed_equals_never_stopped_bit_for_bit(make_stage: MakeStage) -> None:
    """P38: four updates ≡ two + a new process's objects + two, weights, optimiser and metrics."""
    config = ppo_config(ppo={"kl_control": "adaptive", "kl_horizon": 20.0})
    straight = make_stage(config, folder="a")
    whole = [straight.step(n) for n in range(4)]
    first = make_stage(config, folder="b")
    halves = [first.step(n) for n in range(2)]
    tensors, state = {k: v.clone() for k, v in first.tensors().items()}, first.state()
    second = make_stage(config, folder="c")
    second.load(tensors, state)
    halves += [second.step(n) for n in range(2, 4)]
    for a, b in zip(whole, halves, strict=True):
        keys = [k for k in a if not k.startswith("time/")]
        assert {k: a[k] for k in keys} == {k: b[k] for k in keys}
    one, two = straight.tensors(), second.tensors()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_prompt_drawn_twice_in_an_update_gets_another_response(make_stage: MakeStage) -> None:
    """Fewer prompts than an update asks for must not become copies of one response."""
    stage = make_stage(ppo_config(ppo={"prompts_per_update": 7}), prompts=2)
    rollouts = stage._generate(0)
    assert len(rollouts) == 7
    assert {r.prompt.id for r in rollouts} == {"p0", "p1"}
    assert len({r.response_tokens for r in rollouts}) == 7


def test_samples_per_prompt_and_seeds(make_stage: MakeStage) -> None:
    """S2-13, P10: several different samples a prompt; another seed samples otherwise."""
    stage = make_stage(ppo_config(ppo={"prompts_per_update": 3, "samples_per_prompt": 4}))
    rollouts = stage._generate(0)
    assert [r.prompt.id for r in rollouts] == [
        i for i in dict.fromkeys(r.prompt.id for r in rollouts) for _ in range(4)
    ]
    assert len({r.text for r in rollouts}) > 6
    other = make_stage(ppo_config(seed=1, ppo={"prompts_per_update": 3, "samples_per_prompt": 4}))._generate(
        0
    )
    assert {r.response_tokens for r in rollouts}.isdisjoint(r.response_tokens for r in other)
    assert share_of_low_tokens(rollouts[0]) <= 1
