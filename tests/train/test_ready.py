"""The forward that evaluates the old policy and is learnt from: the same update, one pass less."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from ppo_stage import ppo_config

from harken.batches import PolicyOutputs, TokenBatch
from harken.models.roles import Policy
from harken.train.ppo.evaluator import Evaluator
from harken.train.ppo.minibatch import minibatch_indices
from harken.train.ppo.stage import PPOStage

MakeStage = Callable[..., PPOStage]


def without(patch: pytest.MonkeyPatch) -> None:
    """Every forward is made again to learn from."""

    def evaluated(self: Evaluator, piece: TokenBatch, rows: list[int]) -> PolicyOutputs:
        with torch.no_grad():
            return self.policy.evaluate(piece, self.settings.temperature)

    patch.setattr(Evaluator, "_forward_keep_graph", evaluated)


def first_minibatch(stage: PPOStage, batch: TokenBatch) -> list[int]:
    return minibatch_indices(0, 0, 0, len(batch.tokens), stage.settings, stage.seed)


def graphs(patch: pytest.MonkeyPatch) -> list[bool]:
    """Of every forward of the policy with its value head: whether it had gradients."""
    made: list[bool] = []
    evaluate = Policy.evaluate

    def counted(self: Policy, *args: Any, **keys: Any) -> PolicyOutputs:
        if self.value_head is not None:
            made.append(torch.is_grad_enabled())
        return evaluate(self, *args, **keys)

    patch.setattr(Policy, "evaluate", counted)
    return made


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("ppo", "training"),
    [
        ({"epochs": 1, "minibatches": 1}, {}),
        ({"epochs": 2, "minibatches": 2}, {"micro_batch_tokens": 60}),
        ({"epochs": 1, "minibatches": 1}, {"micro_batch_tokens": 60, "gradient_checkpointing": True}),
        ({"critic": "adapter"}, {"micro_batch_tokens": 60}),
        ({"kl_in": "loss", "kl_estimator": "full"}, {}),
    ],
)
def test_the_update_is_the_same_to_the_last_bit(
    make_stage: MakeStage, monkeypatch: pytest.MonkeyPatch, ppo: dict[str, Any], training: dict[str, Any]
) -> None:
    stages = []
    for patch in (lambda: None, lambda: without(monkeypatch)):
        patch()
        stage = make_stage(ppo_config(ppo=ppo, **training))
        metrics = [stage.step(number) for number in range(2)]
        stages.append((stage, [{k: v for k, v in m.items() if not k.startswith("time/")} for m in metrics]))
    (ours, of_ours), (plain, of_plain) = stages
    if "micro_batch_tokens" in training:
        # The micro-batch that is ready is learnt from first: the same sum in another order.
        for one, other in zip(of_ours, of_plain, strict=True):
            assert one == pytest.approx(other, rel=1e-4, abs=1e-6)
    else:
        assert of_ours == of_plain
        theirs = plain.tensors()
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.tensors().items())


def test_a_batch_that_fits_is_read_once(make_stage: MakeStage, monkeypatch: pytest.MonkeyPatch) -> None:
    """One forward with gradients serves both; in a second epoch there is one more."""
    stage = make_stage(ppo_config(ppo={"epochs": 2, "minibatches": 1}, micro_batch_tokens=100_000))
    made = graphs(monkeypatch)
    stage.step(0)
    assert made == [True, True]


def test_the_largest_micro_batch_of_the_first_step_is_kept(make_stage: MakeStage) -> None:
    stage = make_stage(ppo_config(ppo={"epochs": 1, "minibatches": 2}, micro_batch_tokens=70))
    batch = stage._collate(stage._generate(0))
    groups = stage.evaluator.first_minibatch_last(batch, first_minibatch(stage, batch))
    assert sorted(row for group in groups for row in group) == list(range(len(batch.tokens)))
    first = set(first_minibatch(stage, batch))
    of_first = [group for group in groups if set(group) <= first]
    assert groups[-len(of_first) :] == of_first
    sizes = [int(batch.attention_mask[group].sum()) for group in of_first]
    assert sizes[-1] == max(sizes)


def test_no_graph_is_kept_during_critic_warmup_or_after_an_update(make_stage: MakeStage) -> None:
    stage = make_stage(ppo_config(ppo={"critic_warmup_updates": 1, "critic_warmup_until": 0.99}))
    batch = stage._collate(stage._generate(0))
    stage.evaluator.old_logprobs_and_values(
        batch, first_minibatch(stage, batch), keep_graph=not stage.warming_up
    )
    assert stage.learner.evaluator.cached is None
    stage.warming_up = False
    stage.evaluator.old_logprobs_and_values(
        batch, first_minibatch(stage, batch), keep_graph=not stage.warming_up
    )
    assert stage.learner.evaluator.cached is not None
    stage.step(1)
    assert stage.learner.evaluator.cached is None
