import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harken.maths.policy_loss import clipped_policy_loss, clipped_value_loss

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "trl.json").read_text())["ppo"]
SETTINGS = GOLDEN["settings"]
NUMBER = st.floats(-5.0, 5.0)


def golden(name):
    return torch.tensor(GOLDEN.get(name, GOLDEN["inputs"].get(name)), dtype=torch.float64)


def one(value):
    return torch.tensor([value], dtype=torch.float64)


@given(NUMBER, NUMBER, NUMBER, st.floats(0.05, 0.5))
def test_the_policy_loss_is_the_definition(logprob, old, advantage, clip):
    """P29 (S4-01): minus the smaller of ratio × A and clipped ratio × A."""
    ratio = math.exp(logprob - old)
    held = min(max(ratio, 1 - clip), 1 + clip)
    expected = -min(ratio * advantage, held * advantage)
    assert clipped_policy_loss(one(logprob), one(old), one(advantage), clip).item() == pytest.approx(expected)


def test_losses_agree_with_trl():
    """P29, P30: a value for every token, and TRL's masked means of them."""
    real, real_p1 = ~torch.tensor(GOLDEN["padding_mask"]), ~torch.tensor(GOLDEN["padding_mask_p1"])
    policy = clipped_policy_loss(
        golden("new_logprobs")[real],
        golden("logprobs")[real],
        golden("advantages")[real],
        SETTINGS["cliprange"],
    )
    torch.testing.assert_close(policy, golden("pg_loss_max")[real])
    assert policy.mean().item() == pytest.approx(GOLDEN["pg_loss"])
    value = clipped_value_loss(
        golden("vpred")[real_p1],
        golden("masked_values")[real_p1],
        golden("returns")[real_p1],
        SETTINGS["cliprange_value"],
    )
    torch.testing.assert_close(value, 0.5 * golden("vf_loss_max")[real_p1])
    assert value.mean().item() == pytest.approx(GOLDEN["vf_loss"])


def test_the_first_minibatch_is_reinforce():
    """P28 (S4-02): with ratio 1 nothing is clipped; the loss is -A and its gradient -A ∇ log π."""
    logprobs = torch.tensor([-1.0, -2.0, -0.5], requires_grad=True)
    advantages = torch.tensor([2.0, -3.0, 0.5])
    loss = clipped_policy_loss(logprobs, logprobs.detach(), advantages, 0.2)
    assert torch.equal(loss, -advantages)
    loss.sum().backward()
    assert torch.equal(logprobs.grad, -advantages)


@pytest.mark.parametrize(
    ("ratio", "advantage", "slope"),
    [
        (1.5, 1.0, 0.0),  # already likelier than the clip: a good token earns no more
        (1.5, -1.0, 1.5),  # a bad token that became likelier is pushed back, clip or no clip
        (0.5, 1.0, -0.5),  # a good token that became rarer is pulled back
        (0.5, -1.0, 0.0),  # already rarer than the clip: a bad token costs no more
        (1.1, 1.0, -1.1),  # inside the clip
        (0.9, -1.0, 0.9),
    ],
)
def test_when_the_clip_acts(ratio, advantage, slope):
    """P29 (S4-53): the gradient vanishes only where the policy has moved far enough the right way."""
    logprob = one(math.log(ratio)).requires_grad_()
    clipped_policy_loss(logprob, one(0.0), one(advantage), 0.2).sum().backward()
    assert logprob.grad.item() == pytest.approx(slope)


def test_a_wild_log_ratio_stays_finite():
    """P29: guarded at ±20 before the exponential."""
    logprob = torch.tensor([1000.0, -1000.0], requires_grad=True)
    loss = clipped_policy_loss(logprob, torch.zeros(2), torch.tensor([-1.0, -1.0]), 0.2)
    assert loss[0].item() == pytest.approx(math.exp(20.0))
    assert loss[1].item() == pytest.approx(0.8)
    loss.sum().backward()
    assert torch.isfinite(logprob.grad).all()


@given(NUMBER, NUMBER, NUMBER, st.floats(0.05, 2.0))
def test_the_value_loss_is_the_definition(value, old, target, clip):
    """P30 (S0-30)."""
    held = min(max(value, old - clip), old + clip)
    expected = 0.5 * max((value - target) ** 2, (held - target) ** 2)
    assert clipped_value_loss(one(value), one(old), one(target), clip).item() == pytest.approx(expected)


@given(NUMBER, NUMBER, NUMBER)
def test_without_a_clip_it_is_half_the_squared_error(value, old, target):
    """P30 (S0-30, S4-10): the off switch, and the limit of a wide clip."""
    unclipped = clipped_value_loss(one(value), one(old), one(target), None).item()
    assert unclipped == pytest.approx(0.5 * (value - target) ** 2)
    assert unclipped == clipped_value_loss(one(value), one(old), one(target), 100.0).item()


def test_the_value_clip_stops_a_step_that_is_far_enough():
    """P30: beyond old ± clip, moving on towards the return gains nothing."""
    value = torch.tensor([0.5], requires_grad=True)
    clipped_value_loss(value, torch.zeros(1), torch.ones(1), 0.2).sum().backward()
    assert value.grad.item() == 0.0


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 12))
def test_a_step_does_not_depend_on_its_micro_batches(seed, pieces):
    """P31: sum over action tokens ÷ the global count, whatever the split; a mean of means would differ."""
    random = torch.Generator().manual_seed(seed)
    new, old, advantages, returns = (
        torch.randn(12, 5, generator=random, dtype=torch.float64) for _ in range(4)
    )
    response_mask = torch.rand(12, 5, generator=random) < 0.5
    response_mask[0, 0] = True

    def gradient(rows_of_each):
        parameter = torch.zeros(5, dtype=torch.float64, requires_grad=True)
        for rows in rows_of_each:
            take = response_mask[rows]
            policy = clipped_policy_loss(
                (new[rows] + parameter)[take], old[rows][take], advantages[rows][take], 0.2
            )
            value = clipped_value_loss(
                (new[rows] * parameter)[take], old[rows][take], returns[rows][take], 0.2
            )
            ((policy + 0.1 * value).sum() / response_mask.sum()).backward()
        return parameter.grad

    whole = gradient([torch.arange(12)])
    split = gradient(torch.arange(12).chunk(pieces))
    torch.testing.assert_close(split, whole, rtol=1e-10, atol=1e-12)
