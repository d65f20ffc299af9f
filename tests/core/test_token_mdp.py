"""S0-03: PPO with the maths of this project, on a token task whose best policy dynamic programming knows.

Responses are up to four of the tokens 0, 1, 2 and end with token 3 or after the fourth. The 121 responses have
random rewards, the reference is random, and the policy and the critic are tables over the 40 prefixes. No
language model and nothing of `harken.train` takes part.
"""

import functools
import math

import numpy as np
import pytest
import torch
from torch import nn

from harken.maths.advantage import gae, token_rewards
from harken.maths.kl import k1
from harken.maths.masked import whiten
from harken.maths.policy_loss import clipped_policy_loss, clipped_value_loss
from harken.maths.theory import kl_divergence, optimal_policy, optimal_value

LENGTH, END, BETA = 4, 3, 0.3
PREFIXES = [()]
for prefix in PREFIXES:
    if len(prefix) < LENGTH - 1:
        PREFIXES += [(*prefix, token) for token in range(END)]
ANSWERS = [(*p, token) for p in PREFIXES for token in range(4) if token == END or len(p) == LENGTH - 1]
STATE = {prefix: i for i, prefix in enumerate(PREFIXES)}
NEXT = torch.tensor([[STATE.get((*p, token), -1) for token in range(4)] for p in PREFIXES])
RANDOM = np.random.default_rng(839)
REWARD = dict(zip(ANSWERS, RANDOM.normal(size=len(ANSWERS)).tolist(), strict=True))
REFERENCE = torch.log_softmax(torch.tensor(RANDOM.normal(size=(len(PREFIXES), 4)), dtype=torch.float32), -1)


def of_answers(table):
    """log-probability of every response under a policy [prefixes, 4] of log-probabilities."""
    table = table.double().numpy()
    return np.array([sum(table[STATE[a[:t]], a[t]] for t in range(len(a))) for a in ANSWERS])


def worth(table):
    """E[r] − β KL(policy ‖ reference), by summing over all responses."""
    log_p = of_answers(table)
    earned = float(np.exp(log_p) @ np.array(list(REWARD.values())))
    return earned - BETA * kl_divergence(log_p, of_answers(REFERENCE))


@functools.cache
def solved():
    """The optimum by dynamic programming from the ends: (soft values [prefixes], policy [prefixes, 4]).

    V(s) = β log Σ ref(a|s) exp(Q(s, a) / β), π*(a|s) ∝ ref(a|s) exp(Q(s, a) / β); Q is the reward of an
    response that ends, else V of the longer prefix.
    """
    values, policy = torch.zeros(len(PREFIXES)), torch.zeros(len(PREFIXES), 4)
    for state in reversed(range(len(PREFIXES))):
        q = torch.tensor(
            [
                values[following] if following >= 0 else REWARD[(*PREFIXES[state], token)]
                for token, following in enumerate(NEXT[state].tolist())
            ]
        )
        values[state] = BETA * torch.logsumexp(REFERENCE[state] + q / BETA, 0)
        policy[state] = torch.log_softmax(REFERENCE[state] + q / BETA, 0)
    return values, policy


def sample(table, count, generator):
    """(states, tokens, action), each [count, 1 + LENGTH]: column 0 is a prompt, and no action."""
    states, tokens = (torch.zeros(count, 1 + LENGTH, dtype=torch.long) for _ in range(2))
    response_mask = torch.zeros(count, 1 + LENGTH, dtype=torch.bool)
    state = torch.zeros(count, dtype=torch.long)
    for t in range(1, 1 + LENGTH):
        alive = state >= 0
        token = torch.multinomial(table[state.clamp(min=0)].exp(), 1, generator=generator)[:, 0]
        states[:, t], tokens[:, t], response_mask[:, t] = state.clamp(min=0), token, alive
        state = torch.where(alive, NEXT[state.clamp(min=0), token], -1)
    return states, tokens, response_mask


def ppo(seed, updates=60, answers=256):
    """PPO as in docs/theory.md; returns the policy's log-probabilities [prefixes, 4] and the critic's values."""
    generator = torch.Generator().manual_seed(seed)
    logits, critic = nn.Parameter(REFERENCE.clone()), nn.Parameter(torch.zeros(len(PREFIXES)))
    adam = torch.optim.Adam([{"params": logits, "lr": 0.1}, {"params": critic, "lr": 0.1}], eps=1e-5)
    decay = torch.optim.lr_scheduler.LinearLR(adam, 1.0, 0.02, updates)
    for _ in range(updates):
        with torch.no_grad():
            states, tokens, response_mask = sample(torch.log_softmax(logits, -1), answers, generator)
            old = torch.where(response_mask, torch.log_softmax(logits, -1)[states, tokens], torch.nan)
            reference = torch.where(response_mask, REFERENCE[states, tokens], torch.nan)
            values = torch.where(response_mask, critic[states], torch.nan)
            reward = torch.tensor(
                [REWARD[tuple(row[on].tolist())] for row, on in zip(tokens, response_mask, strict=True)]
            )
            rewards = token_rewards(reward, k1(old, reference), response_mask, BETA)
            advantages = gae(rewards, values, response_mask, 1.0, 0.95)
            returns = advantages + values
            advantages = whiten(advantages, response_mask)
        for _ in range(4):
            now = torch.log_softmax(logits, -1)[states, tokens]
            policy = clipped_policy_loss(
                now[response_mask], old[response_mask], advantages[response_mask], 0.2
            )
            value = clipped_value_loss(
                critic[states][response_mask], values[response_mask], returns[response_mask], None
            )
            adam.zero_grad()
            (policy + value).mean().backward()
            adam.step()
        decay.step()
    return torch.log_softmax(logits.detach(), -1), critic.detach()


def reached(table):
    """How much of the way from the reference to the optimum a policy went: 1 is all of it."""
    start, best = worth(REFERENCE), float(solved()[0][0])
    return (worth(table) - start) / (best - start)


def test_dynamic_programming_is_the_closed_form():
    """S4-54. Solved token by token, the task has the optimum π_ref exp(r/β) / Z over whole responses."""
    values, policy = solved()
    log_reference, r = of_answers(REFERENCE), np.array(list(REWARD.values()))
    assert len(ANSWERS) == 121 and np.exp(log_reference).sum() == pytest.approx(1.0)
    assert float(values[0]) == pytest.approx(optimal_value(log_reference, r, BETA), abs=1e-5)
    assert np.exp(of_answers(policy)) == pytest.approx(
        np.exp(optimal_policy(log_reference, r, BETA)), abs=1e-5
    )
    assert worth(policy) == pytest.approx(float(values[0]), abs=1e-5)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_ppo_reaches_the_optimum(seed):
    """S0-03. Nearly all of the way, and the critic finds the soft values of the prefixes that matter."""
    table, critic = ppo(seed)
    values, best = solved()
    assert 0.985 < reached(table) <= 1 + 1e-6
    assert kl_divergence(of_answers(table), of_answers(best)) < 0.05
    visits = torch.tensor([math.exp(sum(best[STATE[p[:t]], p[t]] for t in range(len(p)))) for p in PREFIXES])
    often = visits > 0.1
    assert (critic - values)[often].abs().max() < 0.1


RIGHT_REWARDS, RIGHT_GAE, RIGHT_LOSS = token_rewards, gae, clipped_policy_loss


def one_late(rewards, values, response_mask, gamma, lam):
    """The advantage of each token given to the token after it."""
    return torch.where(
        response_mask, RIGHT_GAE(rewards, values, response_mask, gamma, lam).roll(1, dims=1), 0.0
    )


def first_token(reward, kl, response_mask, coefficient):
    """The reward falls on the first token."""
    paid = RIGHT_REWARDS(torch.zeros_like(reward), kl, response_mask, coefficient)
    paid[:, 1] += reward
    return paid


def value_after(rewards, values, response_mask, gamma, lam):
    """V read after the token instead of before it."""
    after = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], dim=1).nan_to_num(0.0)
    return RIGHT_GAE(rewards, after, response_mask, gamma, lam)


MISTAKES = {
    "KL with the sign flipped": ("k1", lambda new, reference: reference - new),
    "KL not priced": (
        "token_rewards",
        lambda reward, kl, response_mask, _: RIGHT_REWARDS(reward, kl, response_mask, 0.0),
    ),
    "advantages one token late": ("gae", one_late),
    "V read after the token": ("gae", value_after),
    "reward on the first token": ("token_rewards", first_token),
    "gradient upside down": ("clipped_policy_loss", lambda *given: -RIGHT_LOSS(*given)),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_with_a_mistake_it_does_not(name, monkeypatch):
    """S0-03. The task tells a right PPO from a wrong one: each of these stays a tenth of the way off, or more."""
    monkeypatch.setitem(globals(), *MISTAKES[name])
    assert reached(ppo(seed=3)[0]) < 0.9
