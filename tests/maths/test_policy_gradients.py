"""Gradients in expectation, exactly: every response of a small tree is listed, so nothing is sampled.

The policy is a table: logits of three tokens at the root and after token 0 or 1; token 2 ends the response, and
so does the second token. There are seven responses.
"""

import itertools
import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harken.maths.advantage import gae, group_advantages, token_rewards
from harken.maths.kl import absolute, k1, k2, k3
from harken.maths.policy_loss import clipped_policy_loss

ANSWERS = [(2,), *itertools.product((0, 1), (0, 1, 2))]
TOKENS = torch.tensor([(*answer, 0)[:2] for answer in ANSWERS])
ACTION = torch.tensor([(True, len(answer) == 2) for answer in ANSWERS])
BETA = 0.3
ZEROS = torch.zeros(7, 2, dtype=torch.float64)


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def logprobs_of(logits):
    """[responses, 2]: the log-probability of each token of each response. `logits` is [root, after 0, after 1]."""
    table = torch.log_softmax(logits, -1)
    second = table[(TOKENS[:, 0] + 1).clamp(max=2), TOKENS[:, 1]]
    return torch.where(ACTION, torch.stack([table[0, TOKENS[:, 0]], second], 1), 0.0)


@pytest.fixture
def tree():
    """Logits of the policy, log-probabilities of the reference, and a reward for each response."""
    return draw(1, 3, 3).requires_grad_(), logprobs_of(draw(2, 3, 3)), draw(3, 7)


def gradient(scalar, logits):
    return torch.autograd.grad(scalar, logits, retain_graph=True)[0]


def true_gradient(tree, beta=BETA):
    """∇ of E[r] − β KL(π ‖ reference) itself, differentiated through the probability of every response."""
    logits, reference, r = tree
    total = logprobs_of(logits).sum(1)
    return gradient((total.exp() * (r - beta * (total - reference.sum(1)))).sum(), logits)


def of_ppo(tree, values, lam, kl=None):
    """The expected gradient of PPO's first minibatch, with its sign turned: the direction it climbs.

    `kl` is what each token pays for, k1 when left out.
    """
    logits, reference, r = tree
    now = logprobs_of(logits)
    old = now.detach()
    rewards = token_rewards(r, k1(old, reference) if kl is None else kl, ACTION, BETA)
    advantages = gae(rewards, values, ACTION, 1.0, lam)
    per_token = torch.where(ACTION, clipped_policy_loss(now, old, advantages, 0.2), 0.0)
    return gradient(-(old.sum(1).exp() * per_token.sum(1)).sum(), logits)


def true_values(tree):
    """V before each token: what is still to come in expectation, by summing over the responses."""
    logits, reference, r = tree
    now = logprobs_of(logits).detach()
    p, paid = now.sum(1).exp(), BETA * (now - reference)
    values = torch.zeros_like(now)
    values[:, 0] = (p * (r - paid.sum(1))).sum()
    for first in (0, 1):
        among = TOKENS[:, 0] == first
        values[among, 1] = ((p * (r - paid[:, 1]))[among].sum() / p[among].sum()).item()
    return values


@pytest.mark.parametrize("seed", [None, 7, 8])
def test_ppo_raises_the_penalised_reward_with_any_critic(tree, seed):
    """Property 28. With λ = 1 the critic is a baseline: any V leaves the expected gradient as it is."""
    values = ZEROS.clone() if seed is None else 5 * draw(seed, 7, 2)
    values[:, 0] = values[0, 0]
    for first in (0, 1):
        values[TOKENS[:, 0] == first, 1] = values[3 * first + 1, 1].item()
    torch.testing.assert_close(of_ppo(tree, values, lam=1.0), true_gradient(tree))


@pytest.mark.parametrize("lam", [0.0, 0.5, 0.95])
def test_below_one_lambda_is_right_with_a_right_critic_only(tree, lam):
    """Property 23. λ < 1 trusts V: exact where V is, biased where it is not."""
    values = true_values(tree)
    torch.testing.assert_close(of_ppo(tree, values, lam), true_gradient(tree))
    wrong = torch.where(values == values[0, 0], values, values + 1.0)
    wrong[TOKENS[:, 0] == 1, 1] -= 3.0
    assert not torch.allclose(of_ppo(tree, wrong, lam), true_gradient(tree), atol=1e-3)


@pytest.mark.parametrize("estimator", [absolute, k2, k3])
def test_only_k1_in_the_reward_penalises_the_kl(tree, estimator):
    """Property 17. Priced by another estimate, PPO climbs something else."""
    logits, reference, _ = tree
    old = logprobs_of(logits).detach()
    found = of_ppo(tree, ZEROS, 1.0, estimator(old, reference))
    assert not torch.allclose(found, true_gradient(tree), atol=0.02)


def full_kl_of(logits):
    """[responses, 2]: KL from the reference of the whole distribution that each token was drawn from."""
    log_p, log_q = torch.log_softmax(logits, -1), torch.log_softmax(draw(2, 3, 3), -1)
    states = (log_p.exp() * (log_p - log_q)).sum(-1)
    return torch.stack([states[0].expand(7), states[(TOKENS[:, 0] + 1).clamp(max=2)]], 1)


def test_the_full_kl_in_the_reward_leaves_its_own_token_free(tree):
    """Property 17. KL(π(·|s) ‖ ref(·|s)) is the same whichever token is taken, so it is a baseline there.

    In the reward it penalises only what follows a token; together with the full KL in the loss, which penalises the
    token itself, the gradient is that of the KL of whole responses.
    """
    logits, _, _ = tree
    per_token = full_kl_of(logits)
    in_reward = of_ppo(tree, ZEROS, 1.0, per_token.detach())
    torch.testing.assert_close(
        in_reward[1:], true_gradient(tree, beta=0.0)[1:]
    )  # the last token pays nothing
    assert not torch.allclose(in_reward, true_gradient(tree), atol=0.02)
    p = logprobs_of(logits).sum(1).exp().detach()
    in_loss = gradient((p[:, None] * torch.where(ACTION, per_token, 0.0)).sum(), logits)
    torch.testing.assert_close(in_reward - BETA * in_loss, true_gradient(tree))


def one_choice():
    """One token of three: logits, log π, log reference, probabilities without a gradient."""
    logits = torch.tensor([2.0, 0.0, -1.0]).double().requires_grad_()
    logp = torch.log_softmax(logits, 0)
    reference = torch.log_softmax(torch.tensor([0.0, 0.5, 1.0]).double(), 0)
    return logits, logp, reference, logp.exp().detach()


def test_the_gradients_of_the_estimates_as_a_loss():
    """Property 17. k1: none. k2: that of KL(π ‖ ref). k3: that of KL(ref ‖ π), the other way round."""
    logits, logp, reference, p = one_choice()
    forward = gradient((logp.exp() * (logp - reference)).sum(), logits)
    reverse = gradient((reference.exp() * (reference - logp)).sum(), logits)
    expected = {k: gradient((p * k(logp, reference)).sum(), logits) for k in (k1, k2, k3, absolute)}
    torch.testing.assert_close(expected[k1], torch.zeros_like(forward), rtol=0, atol=1e-12)
    torch.testing.assert_close(expected[k2], forward)
    torch.testing.assert_close(expected[k3], reverse)
    sign = (p * (logp - reference).sign()).detach()
    torch.testing.assert_close(expected[absolute], sign - p * sign.sum())
    assert not torch.allclose(forward, reverse, atol=0.02)


def test_k3_in_the_reward_is_the_difference_of_two_kls():
    """Property 17. E[k3 ∇ log π] = ∇KL(π ‖ ref) − ∇KL(ref ‖ π)."""
    logits, logp, reference, p = one_choice()
    forward = gradient((logp.exp() * (logp - reference)).sum(), logits)
    reverse = gradient((reference.exp() * (reference - logp)).sum(), logits)
    in_reward = gradient((p * k3(logp, reference).detach() * logp).sum(), logits)
    torch.testing.assert_close(in_reward, forward - reverse)


def test_a_kl_loss_per_token_ignores_later_states(tree):
    """Property 17. k2 per token, or the full KL, is the gradient with the visited states held fixed.

    The gradient of the KL of whole responses has one more part: a token also pays for the KL after it.
    k2 of the whole response has both parts.
    """
    logits, reference, _ = tree
    now = logprobs_of(logits)
    p, delta = now.sum(1).exp().detach(), now - reference
    of_answers = gradient((now.sum(1).exp() * delta.sum(1)).sum(), logits)
    per_token = gradient((p * k2(now, reference).sum(1)).sum(), logits)

    full = full_kl_of(logits)
    held_fixed = gradient((p[:, None] * torch.where(ACTION, full, 0.0)).sum(), logits)
    torch.testing.assert_close(per_token, held_fixed)
    assert not torch.allclose(per_token, of_answers, atol=0.02)
    torch.testing.assert_close(gradient((p * delta.sum(1).square() / 2).sum(), logits), of_answers)
    torch.testing.assert_close(per_token[1:], of_answers[1:])  # after the last token nothing is forgotten


def of_groups(p_logits, r, size, kind):
    """E[mean over the group of A ∇ log π], every group of `size` responses listed."""
    logits = p_logits.clone().requires_grad_()
    logp = torch.log_softmax(logits, 0)
    groups = torch.tensor(list(itertools.product(range(len(r)), repeat=size)))
    if kind == "mean":
        advantages = r[groups] - r[groups].mean(1, keepdim=True)
    else:
        everyone = torch.ones(groups.numel(), dtype=torch.bool)
        advantages = group_advantages(r[groups].reshape(-1), everyone, size, kind).view(groups.shape)
    weight = logp[groups].sum(1).exp().detach()
    return gradient((weight * (advantages * logp[groups]).mean(1)).sum(), logits)


def of_reward(p_logits, r):
    logits = p_logits.clone().requires_grad_()
    return gradient((torch.softmax(logits, 0) * r).sum(), logits)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_rloo_is_unbiased(size):
    """S0-31. The others' mean does not depend on the response it is compared with."""
    logits, r = draw(5, 4), draw(6, 4)
    torch.testing.assert_close(of_groups(logits, r, size, "rloo"), of_reward(logits, r))


@pytest.mark.parametrize("size", [2, 3, 4])
def test_the_mean_of_the_whole_group_only_shrinks_the_gradient(size):
    """A response in its own baseline: (k − 1)/k of the gradient, its direction kept."""
    logits, r = draw(5, 4), draw(6, 4)
    torch.testing.assert_close(of_groups(logits, r, size, "mean"), (size - 1) / size * of_reward(logits, r))


def test_the_deviation_of_grpo_turns_the_gradient():
    """One rare, splendid response: a group that holds it is divided by its large deviation."""
    logits, r = torch.tensor([0.0, 0.0, -2.0]).double(), torch.tensor([0.0, 1.0, 10.0]).double()
    exact, scaled = of_reward(logits, r), of_groups(logits, r, 4, "grpo")
    cosine = torch.nn.functional.cosine_similarity(exact, scaled, dim=0).item()
    assert cosine < 0.9
    rloo = of_groups(logits, r, 4, "rloo")
    assert torch.nn.functional.cosine_similarity(exact, rloo, dim=0).item() == pytest.approx(1.0)


def test_the_deviation_of_grpo_weighs_prompts_unevenly():
    """Right or wrong responses: a prompt solved one time in twenty counts for more than one solved every other."""
    r = torch.tensor([0.0, 1.0]).double()

    def factor(p):
        logits = torch.tensor([0.0, math.log(p / (1 - p))]).double()
        return (of_groups(logits, r, 8, "grpo") / of_reward(logits, r))[0].item()

    assert factor(0.05) > 1.3 * factor(0.5)


@settings(deadline=None)
@given(st.floats(-4.0, 4.0), st.floats(-3.0, 3.0), st.floats(0.05, 0.5), st.floats(0.05, 0.9))
@example(25.0, -1.0, 0.2, 0.2)
@example(-25.0, 1.0, 0.2, 0.2)
@example(0.3, 0.0, 0.2, 0.2)
def test_the_gradient_of_the_clipped_objective(log_ratio, advantage, low, high):
    """S4-53. d loss / d log π = −A ρ where the clip does not act, and 0 where it does.

    It acts on a good token that is already likelier than 1 + high, and on a bad one that is already rarer
    than 1 − low; the guard on the log-ratio stops every gradient beyond ±20.
    """
    ratio = math.exp(log_ratio)
    if min(abs(ratio - 1 - high), abs(ratio - 1 + low)) < 1e-5:
        return  # the kink has no derivative
    acts = ratio > 1 + high if advantage > 0 else ratio < 1 - low
    by_hand = 0.0 if acts or abs(log_ratio) > 20 else -advantage * ratio
    old = torch.tensor([-2.0]).double()
    new = (old + log_ratio).requires_grad_()

    def loss(logprobs):
        return clipped_policy_loss(
            logprobs, old, torch.tensor([advantage], dtype=torch.float64), low, high
        ).sum()

    assert gradient(loss(new), new).item() == pytest.approx(by_hand, rel=1e-9, abs=1e-12)
    step = 1e-6
    difference = (loss(new.detach() + step) - loss(new.detach() - step)).item() / (2 * step)
    assert difference == pytest.approx(by_hand, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(
    ("advantage", "ratio", "slope"),
    [
        (1.0, 0.5, -0.5),  # a good token that became rarer is pulled back
        (1.0, 0.9, -0.9),
        (1.0, 1.3, -1.3),  # beyond 1 + 0.2, within 1 + 0.4: the wider upper clip lets it rise
        (1.0, 1.5, 0.0),  # clipped
        (-1.0, 0.5, 0.0),  # clipped
        (-1.0, 0.7, 0.0),  # the lower clip is still 0.2
        (-1.0, 0.9, 0.9),
        (-1.0, 1.5, 1.5),  # a bad token that became likelier is pushed back, clip or no clip
    ],
)
def test_every_case_of_an_uneven_clip(advantage, ratio, slope):
    """S4-53, S0-29: lower clip 0.2, upper clip 0.4, by hand."""
    new = torch.tensor([math.log(ratio)]).double().requires_grad_()
    loss = clipped_policy_loss(new, torch.zeros(1).double(), torch.tensor([advantage]).double(), 0.2, 0.4)
    assert gradient(loss.sum(), new).item() == pytest.approx(slope)


def test_the_gradient_reaches_every_logit():
    """S4-53. Through the softmax: −A ρ (1 − π) at the token itself, A ρ π at every other."""
    logits, old = draw(4, 5).requires_grad_(), torch.tensor(-1.6).double()
    logp = torch.log_softmax(logits, 0)
    found = gradient(clipped_policy_loss(logp[2], old, torch.tensor(0.7).double(), 10.0), logits)
    ratio, p = (logp[2] - old).exp().item(), logp.exp().detach()
    expected = 0.7 * ratio * p
    expected[2] = -0.7 * ratio * (1 - p[2])
    torch.testing.assert_close(found, expected)
