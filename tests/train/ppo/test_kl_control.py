"""KL control that acts: coefficients by schedule, an update taken back, a budget that ends the run."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from ppo_stage import ppo_config

from harken.maths.kl import scheduled_coefficient
from harken.train.ppo.kl_control import KLEarlyStop, UpdateRollback
from harken.train.ppo.stage import PPOStage

MakeStage = Callable[..., PPOStage]


def weights(stage: PPOStage) -> dict[str, torch.Tensor]:
    return {n: t.clone() for n, t in stage.learner.tensors().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[n], b[n]) for n in a)


@pytest.mark.parametrize(("kind", "halfway"), [("linear", 0.55), ("cosine", 0.55)])
def test_a_schedule_goes_from_the_first_to_the_last_coefficient(kind: str, halfway: float) -> None:
    """S2-55: the ends are exact, the middle is the middle; a cosine starts slower than a line."""
    at = [scheduled_coefficient(kind, 0.1, 1.0, n, 5) for n in range(5)]
    assert (at[0], at[4]) == pytest.approx((0.1, 1.0))
    assert at[2] == pytest.approx(halfway)
    wanted = 0.1 + 0.9 * (0.25 if kind == "linear" else (1 - math.cos(math.pi / 4)) / 2)
    assert at[1] == pytest.approx(wanted)


def test_an_update_pays_by_the_schedule(make_stage: MakeStage) -> None:
    stage = make_stage(ppo_config(ppo={"kl_control": "linear", "kl_coef": 0.4, "kl_coef_final": 0.1}))
    assert [stage.step(n)["kl/coef"] for n in range(4)] == pytest.approx([0.4, 0.3, 0.2, 0.1])


def test_adaptive_control_acts_within_an_update(make_stage: MakeStage) -> None:
    """S4-35: after an update the coefficient is what the update's own KL makes it."""
    keys = {"kl_control": "adaptive", "kl_target": 0.001, "kl_horizon": 60.0, "kl_coef": 0.1}
    stage = make_stage(ppo_config(lr=0.02, ppo=keys))
    stage.step(0)
    assert stage.kl.coefficient.value == pytest.approx(0.1 * (1 - 0.2 * 6 / 60))  # no KL yet: below target
    before = stage.kl.coefficient.value
    metrics = stage.step(1)
    assert metrics["kl/coef"] == before
    assert metrics["kl/mean"] > 0.002
    assert stage.kl.coefficient.value == pytest.approx(before * (1 + 0.2 * 6 / 60))


def test_an_update_that_moves_too_far_is_taken_back(make_stage: MakeStage) -> None:
    """S2-93: weights and moments are those of before, to the last bit; the measure says so."""
    stage = make_stage(ppo_config(lr=0.05, ppo={"update_kl_limit": 1e-6}))
    before = weights(stage)
    metrics = stage.step(0)
    assert metrics["update/rolled_back"] == 1.0
    assert metrics["kl/update"] > 1e-6
    after = weights(stage)
    assert same(before, after)
    assert not any(name.startswith("adam/") and t.any() for name, t in after.items())


def test_an_update_within_the_limit_stays(make_stage: MakeStage) -> None:
    stage = make_stage(ppo_config(ppo={"update_kl_limit": 1e6}))
    before = weights(stage)
    assert stage.step(0)["update/rolled_back"] == 0.0
    assert not same(before, weights(stage))
    assert stage.stop_reason() is None


def test_updates_taken_back_in_a_row_end_the_run(make_stage: MakeStage) -> None:
    stage = make_stage(ppo_config(lr=0.05, ppo={"update_kl_limit": 1e-6}))
    for number in range(3):
        assert stage.stop_reason() is None
        stage.step(number)
    assert "update_kl_limit" in str(stage.stop_reason())


def test_the_kl_of_an_update_is_measured_on_its_own_tokens(make_stage: MakeStage) -> None:
    """kl/update is the mean over responses of Σ (ratio − 1 − log ratio), new against old log-probabilities."""
    stage = make_stage(ppo_config(lr=0.01, ppo={"trace_every": 1}))
    batch = stage._collate(stage._generate(0))
    old = stage.evaluator.logprobs(stage.policy, batch).double()
    moved = stage.step(0)["kl/update"]
    new = stage.evaluator.logprobs(stage.policy, batch).double()
    ratio = (new - old)[batch.response_mask]
    assert moved == pytest.approx(float((ratio.exp() - 1 - ratio).sum()) / len(batch.tokens), rel=1e-4)


def test_over_budget_the_run_ends_with_the_last_policy_inside(make_stage: MakeStage) -> None:
    """The rollouts of update 2 are over budget: the weights they came from go, those before come back."""
    stage = make_stage(ppo_config(lr=0.05, ppo={"kl_budget": 0.05}))
    starts: list[dict[str, torch.Tensor]] = []
    for number in range(4):
        starts.append({n: t for n, t in weights(stage).items() if n.startswith("parameter/")})
        metrics = stage.step(number)
        if stage.stop_reason():
            break
    assert "kl_budget" in str(stage.stop_reason())
    assert metrics["kl/mean"] > 0.05
    assert same(starts[-2], weights(stage))


def test_a_budget_survives_a_resume(make_stage: MakeStage) -> None:
    """The weights to go back to are part of a checkpoint."""
    keys: dict[str, Any] = {"lr": 0.05, "ppo": {"kl_budget": 0.05}}
    first = make_stage(ppo_config(**keys), folder="a")
    inside = {n: t for n, t in weights(first).items() if n.startswith("parameter/")}
    first.step(0)
    second = make_stage(ppo_config(**keys), folder="b")
    second.load({n: t.clone() for n, t in first.tensors().items()}, first.state())
    second.step(1)
    assert "kl_budget" in str(second.stop_reason())
    assert same(inside, weights(second))


def test_an_update_ends_early_above_its_limit_alone() -> None:
    assert [KLEarlyStop(0.1).reached(kl) for kl in (0.05, 0.1, 0.2)] == [False, False, True]
    assert not KLEarlyStop(None).reached(1e9)


def test_an_update_within_the_limit_ends_a_row_of_rollbacks() -> None:
    rollback, restored = UpdateRollback(1.0), []
    old, mask = torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool)
    for new in (-5.0, -5.0, 0.0, -5.0, -5.0):
        rollback.check(old, torch.full((1, 1), new), mask, lambda: restored.append(1))
    assert (rollback.in_a_row, len(restored), rollback.stop_reason) == (2, 4, None)
    rollback.check(old, torch.full((1, 1), -5.0), mask, lambda: None)
    assert rollback.stop_reason is not None and "3 updates in a row" in rollback.stop_reason
