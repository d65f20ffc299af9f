"""Properties 33–37 of a right PPO: the update around the losses (docs/correctness.md)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from oracles import move_policy, parameters, watched_step
from ppo_stage import ppo_config
from pydantic import ValidationError
from tiny import END, PAD, tiny_tokenizer
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from harken.config.ppo import PPOSettings, PPOTraining
from harken.errors import FrozenWeightsChanged
from harken.models.backbone import Backbone
from harken.models.roles import fingerprint_tensors
from harken.reward.learned import LearnedReward
from harken.train.ppo.minibatch import Minibatch
from harken.train.ppo.stage import PPOStage

MakeStage = RunWithReward = Callable[..., PPOStage]


def forgetful(*arguments: object, **options: object) -> Backbone:
    """A base that brings dropout of its own, as GPT-2's configuration does."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tiny_tokenizer()), n_embd=32, n_layer=2, n_head=4, n_positions=128, initializer_range=0.2,
        resid_pdrop=0.5, embd_pdrop=0.5, attn_pdrop=0.5, bos_token_id=1, eos_token_id=END, pad_token_id=PAD,
    )  # fmt: skip
    return Backbone(GPT2LMHeadModel(config), tiny_tokenizer())


def test_property_33_no_dropout_in_rollout_or_update(
    make_stage: MakeStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout of the adapter is refused; dropout that the base brings is off wherever PPO runs it."""
    with pytest.raises(ValidationError, match="dropout: 0"):
        ppo_config(lora={"rank": 4, "dropout": 0.1})
    monkeypatch.setattr("ppo_stage.tiny_backbone", forgetful)
    stage = make_stage(ppo_config())
    move_policy(stage)
    first = watched_step(stage)
    assert first.metrics["sampler/logprob_gap"] < 1e-5
    assert first.metrics["policy/first_ratio_gap"] < 1e-5
    again = make_stage(ppo_config(), folder="again")
    move_policy(again)
    watched_step(again)
    before, after = parameters(stage), parameters(again)
    assert all(torch.equal(before[name], after[name]) for name in before)
    # The same model with its dropout on gives other numbers: the test could fail.
    stage.policy.backbone.model.train()
    with torch.no_grad():
        noisy = stage.policy.evaluate(first.batch).logprobs
    assert float((noisy - first.old.logprobs)[first.batch.response_mask].abs().max()) > 0.1


def test_property_34_the_critic_starts_from_zero_or_from_the_reward_model(
    run_with_reward: RunWithReward, make_stage: MakeStage
) -> None:
    """A shared head says 0; a critic from the reward model says its standardised score of each state.

    Warm-up: the policy stays as it is to the bit until the critic explains enough or the updates are used up.
    """
    fresh = watched_step(make_stage(ppo_config()))
    assert float(fresh.old.values.abs().max()) == 0.0

    for kind in ("adapter", "model"):
        stage = run_with_reward(critic=kind, critic_init="reward_model")
        learned = stage.reward_sources[0]
        assert isinstance(learned, LearnedReward)
        seen = watched_step(stage)
        for row, rollout in enumerate(seen.rollouts[:3]):
            tokens = [*rollout.prompt_tokens, *rollout.response_tokens]
            states = [tokens[:t] for t in range(len(rollout.prompt_tokens), len(tokens))]
            wanted = [learned.model.standardize(raw) for raw in learned.model.raw_scores(states, 4096)]
            assert seen.of_row(seen.old.values, row).tolist() == pytest.approx(wanted, abs=1e-4)
        scores = [s.value for s in learned.score(seen.rollouts)]
        assert seen.old.final_values.tolist() == pytest.approx(scores, abs=1e-4)  # type: ignore[union-attr]

    for until, moves_at in ((1.0, 2), (-1e9, 0)):
        stage = make_stage(ppo_config(ppo={"critic_warmup_updates": 2, "critic_warmup_until": until}))
        for number in range(3):
            before = {name: p.detach().clone() for name, p in stage.policy.parameters().items()}
            head = stage.policy.value_head.weight.detach().clone()  # type: ignore[union-attr]
            stage.step(number)
            after = stage.policy.parameters()
            moved = any(not torch.equal(after[name], tensor) for name, tensor in before.items())
            assert moved is (number >= moves_at)
            assert not torch.equal(stage.policy.value_head.weight, head)  # type: ignore[union-attr]


def test_property_35_adam_with_eps_and_a_rate_that_falls_to_zero(make_stage: MakeStage) -> None:
    """First step: −lr · g / (|g| + eps), PyTorch's eps; the update's factor is 1 − k/total, no warm-up, no decay."""
    defaults = {"type": "ppo", "reward_model": {"random_for_debugging": True}}
    training = PPOTraining.model_validate(defaults)
    assert (training.adam_eps, training.lr_schedule, training.warmup_steps) == (1e-5, "linear", 0)
    assert training.weight_decay == 0.0

    eps, lr = 1e-3, 0.05
    keys = {"epochs": 1, "minibatches": 1, "updates": 4, "vf_coef": 1.0}
    config = ppo_config(lr=lr, lr_schedule="linear", adam_eps=eps, max_grad_norm=1e9, ppo=keys)
    stage = make_stage(config)
    (optimiser,) = stage.learner.optimisers.values()
    taken: list[dict[str, Tensor]] = []
    step = optimiser.step

    def keeping(lr_scale: float) -> None:
        taken.append({n: p.grad.clone() for n, p in optimiser.parameters.items() if p.grad is not None})
        step(lr_scale)

    optimiser.step = keeping  # type: ignore[method-assign]
    before = {name: p.detach().clone() for name, p in optimiser.parameters.items()}
    metrics = [stage.step(0)]
    between = 0
    for name, gradient in taken[0].items():
        wanted = -lr * gradient / (gradient.abs() + eps)
        moved = optimiser.parameters[name].detach() - before[name]
        torch.testing.assert_close(moved, wanted, atol=1e-6, rtol=1e-3)
        between += int(((gradient.abs() > eps / 10) & (gradient.abs() < 10 * eps)).sum())
    assert between > 10  # where eps tells
    metrics += [stage.step(number) for number in range(1, 4)]
    assert [m["lr"] for m in metrics] == pytest.approx([lr * (1 - k / 4) for k in range(4)])


def test_property_36_every_epoch_is_a_new_order_of_all_rows(make_stage: MakeStage) -> None:
    """Each epoch's optimiser steps share out the batch; no two epochs or updates do so alike. Default: 4 × 1."""
    assert (PPOSettings().epochs, PPOSettings().minibatches) == (4, 1)
    size = 12
    keys = {"epochs": 3, "minibatches": 3, "prompts_per_update": size}
    stage = make_stage(ppo_config(ppo=keys))
    learner = stage.learner
    steps: list[list[int]] = [[]]
    backward, step = learner._backward, learner._optimiser_step

    def watching(micro_batch: Minibatch, *rest: Any) -> None:
        steps[-1] += micro_batch.rows
        backward(micro_batch, *rest)

    def counting(lr_scale: float) -> float:
        steps.append([])
        return step(lr_scale)

    learner._backward, learner._optimiser_step = watching, counting  # type: ignore[method-assign, assignment]
    stage.step(0)
    stage.step(1)
    taken = steps[:-1]
    assert len(taken) == 2 * 3 * 3
    epochs = [taken[at : at + 3] for at in range(0, len(taken), 3)]
    for parts in epochs:
        assert sorted(row for part in parts for row in part) == list(range(size))
        assert {len(part) for part in parts} == {size // 3}
    assert len({frozenset(map(frozenset, parts)) for parts in epochs}) == 6


def test_property_37_the_judge_does_not_move_with_the_policy(
    trained_reward: Any, run_with_reward: RunWithReward
) -> None:
    """The reward model shares the policy's base, and not one bit of it changes while the policy learns.

    The check that ends every run finds a single changed weight.
    """
    stage = run_with_reward()
    learned = stage.reward_sources[0]
    assert isinstance(learned, LearnedReward)
    model = learned.model
    assert model.backbone is stage.policy.backbone
    rows = [list(pair.chosen_tokens) for pair in trained_reward.pairs]

    def weights() -> str:
        base = [p for name, p in model.backbone.model.named_parameters() if "lora_" not in name]
        adapter = model.backbone.adapter_parameters(str(model.adapter)).values()
        return fingerprint_tensors([*base, *adapter, *model.head.parameters()])

    frozen, scores = weights(), model.raw_scores(rows, 4096)
    assert scores == pytest.approx(trained_reward.trained.model.raw_scores(rows, 4096), abs=1e-5)
    policy = parameters(stage)
    for number in range(2):
        stage.step(number)
        assert weights() == frozen
        assert model.raw_scores(rows, 4096) == scores
    assert any(not torch.equal(policy[name], now) for name, now in parameters(stage).items())
    stage.check_frozen()
    with torch.no_grad():
        next(iter(model.backbone.adapter_parameters(model.adapter).values())).view(-1)[0] += 1e-3  # type: ignore[arg-type]
    with pytest.raises(FrozenWeightsChanged, match="frozen weights changed during the run: reward model"):
        stage.check_frozen()
