import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harken.maths.advantage import explained_variance, gae, token_rewards

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "trl.json").read_text())["ppo"]
SETTINGS = GOLDEN["settings"]
SEEDS = st.integers(0, 10_000)
FACTOR = st.sampled_from([0.0, 0.5, 0.9, 1.0])


def golden(name):
    return torch.tensor(GOLDEN.get(name, GOLDEN["inputs"].get(name)), dtype=torch.float64)


def case(seed, rows=4, time=8):
    """Ragged rows with gaps: prompts, two turns, padding, and one row without any action."""
    random = torch.Generator().manual_seed(seed)
    rewards = torch.randn(rows, time, generator=random, dtype=torch.float64)
    values = torch.randn(rows, time, generator=random, dtype=torch.float64)
    response_mask = torch.rand(rows, time, generator=random) < 0.6
    response_mask[-1] = False
    return rewards, values, response_mask


def slow_gae(rewards, values, response_mask, gamma, lam):
    """The sum of the definition, A_k = Σ_l (γλ)^l δ_(k+l), over the sampled tokens of each row."""
    out = torch.zeros(response_mask.shape, dtype=torch.float64)
    for row, flags in enumerate(response_mask.tolist()):
        sampled = [t for t, flag in enumerate(flags) if flag]
        r = [rewards[row, t].item() for t in sampled]
        v = [values[row, t].item() for t in sampled] + [0.0]
        delta = [r[k] + gamma * v[k + 1] - v[k] for k in range(len(r))]
        for k, t in enumerate(sampled):
            out[row, t] = math.fsum((gamma * lam) ** (m - k) * delta[m] for m in range(k, len(r)))
    return out


@settings(deadline=None, max_examples=40)
@given(SEEDS, FACTOR, FACTOR)
def test_gae_is_the_definition(seed, gamma, lam):
    """P23 (S0-31): against brute force, with gaps between the turns of a conversation."""
    inputs = case(seed)
    torch.testing.assert_close(
        gae(*inputs, gamma, lam), slow_gae(*inputs, gamma, lam), rtol=1e-10, atol=1e-12
    )


@settings(deadline=None, max_examples=25)
@given(SEEDS)
def test_with_lambda_one_the_advantage_is_the_reward_to_come_minus_the_value(seed):
    """P23: λ = 1, γ = 1 ⇒ A = ΣR - V."""
    rewards, values, response_mask = case(seed)
    masked = torch.where(response_mask, rewards, 0.0)
    to_come = masked.flip(1).cumsum(1).flip(1)
    expected = torch.where(response_mask, to_come - values, 0.0)
    torch.testing.assert_close(gae(rewards, values, response_mask, 1.0, 1.0), expected)


@settings(deadline=None, max_examples=25)
@given(SEEDS)
def test_with_lambda_zero_the_advantage_is_the_one_step_error(seed):
    """P23: λ = 0 ⇒ A_t = r_t + γ V_(t+1) - V_t, here on rows without gaps."""
    rewards, values, _ = case(seed)
    following = torch.cat([values[:, 1:], torch.zeros(len(values), 1, dtype=values.dtype)], 1)
    out = gae(rewards, values, torch.ones(4, 8, dtype=torch.bool), 0.9, 0.0)
    torch.testing.assert_close(out, rewards + 0.9 * following - values)


@settings(deadline=None, max_examples=25)
@given(SEEDS, FACTOR, FACTOR)
def test_gaps_do_not_exist_for_gae(seed, gamma, lam):
    """Sampled tokens spread over a row get what they get side by side; rows do not see one another."""
    rewards, values, response_mask = case(seed)
    spread = gae(rewards, values, response_mask, gamma, lam)
    for row in range(len(response_mask)):
        r, v = (x[row, response_mask[row]].unsqueeze(0) for x in (rewards, values))
        together = gae(r, v, torch.ones_like(r, dtype=torch.bool), gamma, lam) if r.numel() else r
        torch.testing.assert_close(spread[row, response_mask[row]], together[0])


def test_gae_agrees_with_trl():
    """P23. TRL's response region ends one place after the last token, where it adds the score."""
    response_mask = ~torch.tensor(GOLDEN["padding_mask_p1"])
    out = gae(golden("rewards"), golden("masked_values"), response_mask, SETTINGS["gamma"], SETTINGS["lam"])
    torch.testing.assert_close(
        out[response_mask], golden("unwhitened_advantages")[response_mask], rtol=1e-9, atol=1e-12
    )


def test_a_right_critic_leaves_no_advantage():
    """P25: V_t is read before token t. A chain that pays 1, 2, 3 is worth 6, 5, 3 and then nothing."""
    rewards, worth = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[6.0, 5.0, 3.0]])
    every = torch.ones(1, 3, dtype=torch.bool)
    assert torch.equal(gae(rewards, worth, every, 1.0, 0.95), torch.zeros(1, 3))
    after_the_token = torch.tensor([[5.0, 3.0, 0.0]])
    assert gae(rewards, after_the_token, every, 1.0, 0.95).abs().min() > 0.5


@pytest.mark.parametrize("poison", [math.nan, math.inf, 1e6])
def test_gae_reads_response_tokens_alone(poison):
    """P24: poisoned rewards and values at prompts, gaps and padding change nothing, nor any gradient."""
    rewards, values, response_mask = case(5)
    dirty_rewards, dirty_values = (
        torch.where(response_mask, x, poison).requires_grad_() for x in (rewards, values)
    )
    out = gae(dirty_rewards, dirty_values, response_mask, 0.99, 0.95)
    assert torch.equal(out, gae(rewards, values, response_mask, 0.99, 0.95))
    assert torch.equal(out[~response_mask], torch.zeros_like(out[~response_mask]))
    for gradient in torch.autograd.grad(out.square().sum(), (dirty_rewards, dirty_values)):
        assert torch.isfinite(gradient).all()


@settings(deadline=None, max_examples=25)
@given(SEEDS)
def test_token_rewards_is_the_definition(seed):
    """P15, P16 (S4-07): -β kl on each sampled token, the reward on the last of them."""
    kl, _, response_mask = case(seed)
    reward = torch.arange(1.0, 5.0, dtype=torch.float64)
    expected = torch.zeros_like(kl)
    for row, flags in enumerate(response_mask.tolist()):
        sampled = [t for t, flag in enumerate(flags) if flag]
        for t in sampled:
            expected[row, t] = -0.3 * kl[row, t] + (reward[row] if t == sampled[-1] else 0.0)
    torch.testing.assert_close(token_rewards(reward, kl, response_mask, 0.3), expected)


@settings(deadline=None, max_examples=25)
@given(SEEDS)
def test_a_rows_rewards_add_up_to_reward_minus_kl_penalty(seed):
    """P16: what PPO maximises is R - β Σ kl; a row with no sampled token has no part in it."""
    kl, _, response_mask = case(seed)
    reward = torch.tensor([2.0, -1.0, 0.5, 7.0], dtype=torch.float64)
    total = token_rewards(reward, kl, response_mask, 0.3).sum(1)
    expected = torch.where(response_mask.any(1), reward, 0.0) - 0.3 * torch.where(response_mask, kl, 0.0).sum(
        1
    )
    torch.testing.assert_close(total, expected)


def test_the_reward_lands_on_the_end_of_turn_token():
    """P15: prompt of two, response of two and its end token, padding of two."""
    response_mask = torch.tensor([[False, False, True, True, True, False, False]])
    out = token_rewards(torch.tensor([5.0]), torch.zeros(1, 7), response_mask, 0.1)
    assert out.tolist() == [[0.0, 0.0, 0.0, 0.0, 5.0, 0.0, 0.0]]


def test_token_rewards_agree_with_trl():
    """P15, P16. Rows 0 and 2 fill the width and agree whole; in 1 and 3 TRL pays one place later."""
    real = ~torch.tensor(GOLDEN["padding_mask"])
    kl = torch.where(real, golden("logprobs") - golden("ref_logprobs"), math.nan)
    out = token_rewards(golden("scores"), kl, real, SETTINGS["kl_coef"])
    theirs = golden("rewards")
    torch.testing.assert_close(out[[0, 2]], theirs[[0, 2]])
    for row in (1, 3):
        last = GOLDEN["inputs"]["sequence_lengths"][row]
        torch.testing.assert_close(out[row, :last], theirs[row, :last])
        torch.testing.assert_close(out[row, last], theirs[row, last] + theirs[row, last + 1])


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_token_rewards_read_response_tokens_alone(poison):
    """P24, also for the reward of a row that sampled nothing."""
    kl, _, response_mask = case(6)
    reward = torch.tensor([1.0, 2.0, 3.0, poison], dtype=torch.float64)
    dirty = torch.where(response_mask, kl, poison).requires_grad_()
    out = token_rewards(reward, dirty, response_mask, 0.3)
    assert torch.equal(out, token_rewards(reward.nan_to_num(0.0, 0.0), kl, response_mask, 0.3))
    assert torch.equal(out[~response_mask], torch.zeros_like(out[~response_mask]))
    assert torch.isfinite(torch.autograd.grad(out.sum(), dirty)[0]).all()


def test_explained_variance_by_hand():
    """S4-39. Returns 1, 3, 5 have variance 8/3; errors -1, 0, 1 have 2/3; 1 - 1/4."""
    response_mask = torch.tensor([[True, True, False], [True, False, False]])
    returns = torch.tensor([[1.0, 3.0, math.nan], [5.0, math.nan, math.nan]])
    values = torch.tensor([[2.0, 3.0, math.nan], [4.0, math.nan, math.nan]])
    assert explained_variance(values, returns, response_mask).item() == pytest.approx(0.75)


@settings(deadline=None, max_examples=25)
@given(SEEDS)
def test_explained_variance_has_its_three_landmarks(seed):
    """S0-12, S4-45: a perfect critic 1, a constant one 0, an inverted one below 0."""
    returns, other, response_mask = case(seed)
    response_mask[0, :3] = True
    assert explained_variance(returns, returns, response_mask).item() == pytest.approx(1.0)
    assert explained_variance(torch.full_like(returns, 4.0), returns, response_mask).item() == pytest.approx(
        0.0, abs=1e-9
    )
    assert explained_variance(-returns, returns, response_mask).item() == pytest.approx(-3.0)
    left, right = (returns - other)[response_mask].numpy(), returns[response_mask].numpy()
    assert explained_variance(other, returns, response_mask).item() == pytest.approx(
        1 - left.var() / right.var()
    )


def test_constant_returns_leave_nothing_to_explain():
    every = torch.ones(1, 3, dtype=torch.bool)
    assert explained_variance(torch.randn(1, 3), torch.ones(1, 3), every).item() == 0.0
