"""Closed forms against brute force: every claim of docs/theory.md about KL and reward."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar

from harken.maths.kl import scheduled_coefficient
from harken.maths.preference_loss import bradley_terry
from harken.maths.preference_optimisation import dpo_loss
from harken.maths.theory import (
    best_of_n,
    best_of_n_kl,
    beta_for_kl,
    frontier,
    kl_divergence,
    kl_limit,
    normal_beta_for_kl,
    optimal_policy,
    optimal_value,
    optimum,
)

SEEDS = st.integers(0, 10_000)
BETA = st.floats(0.02, 20.0)


def case(seed, answers=7, spread=1.0):
    """A reference (log-probabilities) and a reward over a few responses."""
    random = np.random.default_rng(seed)
    reference = random.dirichlet(np.full(answers, 2.0))
    return np.log(reference), spread * random.normal(size=answers)


def objective(p, log_reference, r, beta):
    """E[r] − β KL(p ‖ reference), written out; p has no zeros."""
    return sum(pi * (ri - beta * (math.log(pi) - li)) for pi, li, ri in zip(p, log_reference, r, strict=True))


def test_the_optimum_by_hand():
    """Two responses, even odds, rewards 0 and log 3, β = 1: odds of 1 to 3, worth log 2."""
    log_p = optimal_policy(np.log([0.5, 0.5]), [0.0, math.log(3)], 1.0)
    assert np.exp(log_p) == pytest.approx([0.25, 0.75])
    assert optimal_value(np.log([0.5, 0.5]), [0.0, math.log(3)], 1.0) == pytest.approx(math.log(2))


@settings(deadline=None, max_examples=50)
@given(SEEDS, BETA, SEEDS)
def test_no_other_policy_is_worth_more(seed, beta, other):
    """S4-54. The loss of any policy is β KL(policy ‖ optimum): zero for the optimum alone."""
    log_reference, r = case(seed)
    log_best = optimal_policy(log_reference, r, beta)
    p = np.random.default_rng(other).dirichlet(np.ones(7)) + 1e-12
    p /= p.sum()
    lost = optimal_value(log_reference, r, beta) - objective(p, log_reference, r, beta)
    assert lost == pytest.approx(beta * sum(p * (np.log(p) - log_best)), rel=1e-7, abs=1e-9)
    assert lost >= -1e-9
    assert optimal_value(log_reference, r, beta) == pytest.approx(
        objective(np.exp(log_best), log_reference, r, beta), rel=1e-7, abs=1e-9
    )


@pytest.mark.parametrize("beta", [0.05, 0.5, 5.0])
def test_gradient_ascent_arrives_at_the_optimum(beta):
    """S4-54. A numerical optimiser that knows no closed form finds the same distribution."""
    log_reference, r = case(3)

    def loss(logits):
        p = np.exp(logits - np.logaddexp.reduce(logits))
        return -objective(np.maximum(p, 1e-300), log_reference, r, beta)

    found = minimize(loss, np.zeros(7), method="BFGS", options={"gtol": 1e-9}).x
    p = np.exp(found - np.logaddexp.reduce(found))
    assert p == pytest.approx(np.exp(optimal_policy(log_reference, r, beta)), abs=2e-4)


@settings(deadline=None, max_examples=50)
@given(SEEDS, BETA)
def test_the_kl_and_reward_of_the_optimum(seed, beta):
    """Mean, variance and KL by sums in plain Python over exp(r/β) weights."""
    log_reference, r = case(seed)
    weights = [math.exp(li + ri / beta) for li, ri in zip(log_reference, r, strict=True)]
    p = [w / sum(weights) for w in weights]
    mean = sum(pi * ri for pi, ri in zip(p, r, strict=True))
    found = optimum(log_reference, r, beta)
    assert found.beta == beta
    assert found.reward == pytest.approx(mean)
    assert found.variance == pytest.approx(sum(pi * (ri - mean) ** 2 for pi, ri in zip(p, r, strict=True)))
    kl = sum(pi * (math.log(pi) - li) for pi, li in zip(p, log_reference, strict=True) if pi > 0)
    assert found.kl == pytest.approx(kl, rel=1e-6, abs=1e-12)


def test_a_high_kl_coefficient_keeps_the_reference():
    """S4-54. As β → ∞ the optimum is the reference, and KL → Var(r) / 2β²; at no finite β is it 0."""
    log_reference, r = case(11)
    p = np.exp(log_reference)
    variance = (p * (r - (p * r).sum()) ** 2).sum()
    kls = [optimum(log_reference, r, beta).kl for beta in (10.0, 100.0, 1000.0)]
    for beta, kl, tolerance in zip((10.0, 100.0, 1000.0), kls, (0.1, 0.01, 0.001), strict=True):
        assert kl == pytest.approx(variance / (2 * beta**2), rel=tolerance)
        assert kl > 0
    assert np.exp(optimal_policy(log_reference, r, 1e9)) == pytest.approx(p, abs=1e-8)


def test_without_a_kl_penalty_the_best_responses_win():
    """S4-54. As β → 0 only the best responses are left, shared as the reference shared them."""
    log_reference, r = np.log([0.5, 0.2, 0.1, 0.2]), np.array([0.0, 1.0, 1.0, -3.0])
    assert np.exp(optimal_policy(log_reference, r, 1e-3)) == pytest.approx([0, 2 / 3, 1 / 3, 0])
    assert kl_limit(log_reference, r) == pytest.approx(-math.log(0.3))
    assert optimum(log_reference, r, 1e-3).kl == pytest.approx(-math.log(0.3))
    assert optimum(log_reference, r, 1e-3).reward == pytest.approx(1.0)


@settings(deadline=None, max_examples=50)
@given(SEEDS, st.floats(0.1, 10.0))
def test_kl_falls_with_the_coefficient_at_the_rate_of_the_variance(seed, beta):
    """S4-55. dKL/dβ = −Var/β³, by central differences."""
    log_reference, r = case(seed)
    step = beta * 1e-4
    slope = (optimum(log_reference, r, beta + step).kl - optimum(log_reference, r, beta - step).kl) / (
        2 * step
    )
    assert slope == pytest.approx(-optimum(log_reference, r, beta).variance / beta**3, rel=1e-4, abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(SEEDS, st.floats(0.001, 0.999), st.floats(0.01, 1e4))
def test_the_solver_spends_the_budget(seed, part, spread):
    """S4-55. β → KL → β at any scale of reward, from a thousandth of the limit to nearly all of it."""
    log_reference, r = case(seed, spread=spread)
    budget = part * kl_limit(log_reference, r)
    beta = beta_for_kl(log_reference, r, budget)
    assert optimum(log_reference, r, beta).kl == pytest.approx(budget, rel=1e-8)


@pytest.mark.parametrize("budget", [1e-9, 1e-6])
def test_the_smallest_budgets(budget):
    log_reference, r = case(2)
    p = np.exp(log_reference)
    variance = (p * (r - (p * r).sum()) ** 2).sum()
    assert beta_for_kl(log_reference, r, budget) == pytest.approx(math.sqrt(variance / 2 / budget), rel=0.01)


def test_the_solver_is_the_dual():
    """S4-55. max E[r] with KL ≤ δ is min over β of β log E_ref exp(r/β) + βδ, and they meet."""
    log_reference, r = case(8)
    budget = 0.6 * kl_limit(log_reference, r)
    dual = minimize_scalar(
        lambda log_beta: optimal_value(log_reference, r, math.exp(log_beta)) + math.exp(log_beta) * budget,
        bounds=(-6, 6),
        method="bounded",
        options={"xatol": 1e-9},
    )
    beta = beta_for_kl(log_reference, r, budget)
    assert math.exp(dual.x) == pytest.approx(beta, rel=1e-3)
    assert dual.fun == pytest.approx(optimum(log_reference, r, beta).reward, rel=1e-8)


@settings(deadline=None, max_examples=50)
@given(SEEDS, st.floats(0.05, 0.9), SEEDS)
def test_no_policy_within_the_budget_earns_more(seed, part, other):
    """S4-18. The frontier bounds every policy: a random one, drawn in until it keeps the budget."""
    log_reference, r = case(seed)
    budget = part * kl_limit(log_reference, r)
    best = optimum(log_reference, r, beta_for_kl(log_reference, r, budget)).reward
    reference = np.exp(log_reference)
    p = np.random.default_rng(other).dirichlet(np.ones(7))
    while kl_divergence(np.log(p + 1e-300), log_reference) > budget:
        p = 0.9 * p + 0.1 * reference
    assert (p * r).sum() <= best + 1e-9


def test_the_frontier_rises_and_flattens():
    """S4-18. Reward is increasing and concave in KL, and its slope is β."""
    log_reference, r = case(5)
    points = frontier(log_reference, r, np.geomspace(10, 0.1, 200))
    kl, reward = np.array([o.kl for o in points]), np.array([o.reward for o in points])
    slope = np.diff(reward) / np.diff(kl)
    assert (np.diff(kl) > 0).all() and (slope > 0).all() and (np.diff(slope) < 0).all()
    between = np.sqrt(np.array([o.beta for o in points])[1:] * np.array([o.beta for o in points])[:-1])
    assert slope == pytest.approx(between, rel=1e-3)


def test_prompts_share_one_kl_coefficient():
    """Two prompts, one β: the KL that is spent is their mean, and each has the optimum of its own."""
    (first, r1), (second, r2) = case(1), case(2)
    both, r = np.stack([first, second]), np.stack([r1, 3 * r2])
    budget = 0.4 * kl_limit(both, r)
    beta = beta_for_kl(both, r, budget)
    parts = [optimum(first, r1, beta), optimum(second, 3 * r2, beta)]
    assert (parts[0].kl + parts[1].kl) / 2 == pytest.approx(budget, rel=1e-8)
    assert parts[0].kl != pytest.approx(parts[1].kl, rel=0.1)
    assert optimum(both, r, beta).reward == pytest.approx((parts[0].reward + parts[1].reward) / 2)
    assert kl_limit(both, r) == pytest.approx((kl_limit(first, r1) + kl_limit(second, 3 * r2)) / 2)
    assert optimal_policy(both, r, beta)[1] == pytest.approx(optimal_policy(second, 3 * r2, beta))


def test_sampled_rewards_represent_the_reference():
    """4,000 rewards, each of log-probability −log 4,000, give the β that the exact reference gives."""
    log_reference, r = case(4)
    drawn = np.random.default_rng(0).choice(7, size=4000, p=np.exp(log_reference))
    exact = beta_for_kl(log_reference, r, 0.3)
    equal = np.full(4000, -math.log(4000))
    assert beta_for_kl(equal, r[drawn], 0.3) == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize("budget", [0.1, 6.0, 20.0])
def test_normal_rewards_need_only_their_deviation(budget):
    """S4-55. A fine grid under a normal density, exact solver against σ / √(2 budget)."""
    grid = np.linspace(-12, 12, 20_001)
    log_reference = -(grid**2) / 2 - np.logaddexp.reduce(-(grid**2) / 2)
    beta = normal_beta_for_kl(3.0, budget)
    assert beta_for_kl(log_reference, 3 * grid, budget) == pytest.approx(beta, rel=1e-6)


@pytest.mark.parametrize(("deviation", "budget"), [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (math.nan, 1.0)])
def test_no_deviation_or_no_budget_has_no_coefficient(deviation, budget):
    with pytest.raises(ValueError, match="positive"):
        normal_beta_for_kl(deviation, budget)


def test_an_impossible_response_is_never_read():
    log_reference, r = case(6)
    wider = np.append(log_reference, -np.inf)
    for poison in (math.nan, math.inf, 1e9):
        rewards = np.append(r, poison)
        assert optimal_policy(wider, rewards, 0.3)[:-1] == pytest.approx(
            optimal_policy(log_reference, r, 0.3)
        )
        assert optimal_policy(wider, rewards, 0.3)[-1] == -np.inf
        assert optimum(wider, rewards, 0.3).kl == pytest.approx(optimum(log_reference, r, 0.3).kl)
        assert kl_limit(wider, rewards) == pytest.approx(kl_limit(log_reference, r))
        assert beta_for_kl(wider, rewards, 0.3) == pytest.approx(beta_for_kl(log_reference, r, 0.3))
        assert best_of_n(wider, rewards, 4)[:-1] == pytest.approx(best_of_n(log_reference, r, 4))


def test_large_rewards_do_not_overflow():
    log_reference, r = case(7, spread=1e6)
    assert np.isfinite(optimal_value(log_reference, r, 1e-3))
    assert np.exp(optimal_policy(log_reference, r, 1e-3)).sum() == pytest.approx(1.0)


def test_kl_is_infinite_where_the_reference_is_zero():
    assert kl_divergence(np.log([0.5, 0.5]), [0.0, -np.inf]) == math.inf
    assert kl_divergence([0.0, -np.inf], np.log([0.5, 0.5])) == pytest.approx(math.log(2))
    assert kl_divergence([0.0, -800.0], [0.0, -np.inf]) == 0.0


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (0.0, "between"),
        (-1.0, "between"),
        (5.0, "1.20397"),
        (-math.log(0.3), "1.20397"),
        (math.nan, "between"),
    ],
)
def test_an_unreachable_budget_is_refused(budget, message):
    """S4-55. The limit is −log 0.3 = 1.20397 nats: the best response has probability 0.3."""
    with pytest.raises(ValueError, match=message):
        beta_for_kl(np.log([0.7, 0.3]), [0.0, 1.0], budget)


def test_a_budget_within_rounding_of_the_limit_is_spent_or_refused():
    """The last number below the limit, with the best responses tied: the sum may round to less."""
    for seed in range(100):
        log_reference, r = case(seed)[0], np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.5, 0.3])
        budget = float(np.nextafter(kl_limit(log_reference, r), 0))
        try:
            beta = beta_for_kl(log_reference, r, budget)
        except ValueError as error:
            assert "within rounding" in str(error)
        else:
            assert optimum(log_reference, r, beta).kl == pytest.approx(budget, rel=1e-12)


def test_a_constant_reward_has_no_kl_penalty():
    """S4-54. Then the optimum is the reference at every β, and the only case where it is."""
    log_reference, _ = case(9)
    constant = np.full(7, 2.5)
    assert kl_limit(log_reference, constant) == pytest.approx(0.0, abs=1e-12)
    assert optimal_policy(log_reference, constant, 0.01) == pytest.approx(log_reference)
    with pytest.raises(ValueError, match="same reward"):
        beta_for_kl(log_reference, constant, 0.5)


@pytest.mark.parametrize("beta", [0.0, -1.0, math.inf, math.nan])
def test_a_kl_coefficient_is_positive(beta):
    for function in (optimal_policy, optimal_value, optimum):
        with pytest.raises(ValueError, match="positive"):
            function(np.log([0.5, 0.5]), [0.0, 1.0], beta)


@pytest.mark.parametrize(
    ("log_reference", "reward", "message"),
    [
        (np.log([0.5, 0.4]), [0.0, 1.0], "add up to 1"),
        ([0.5, 0.5], [0.0, 1.0], "add up to 1"),
        ([0.0, math.nan], [0.0, 1.0], "add up to 1"),
        ([], [], "add up to 1"),
        (np.log([0.5, 0.5]), [0.0, math.nan], "finite reward"),
        (np.log([0.5, 0.5]), [0.0, -math.inf], "finite reward"),
    ],
)
def test_invalid_references_are_refused(log_reference, reward, message):
    with pytest.raises(ValueError, match=message):
        optimal_policy(log_reference, reward, 1.0)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_best_of_n_by_listing_every_draw(n):
    """Each n-tuple of draws with its probability; equal rewards, and the first of the best is taken."""
    p, r = np.array([0.4, 0.3, 0.2, 0.1]), np.array([1.0, 2.0, 2.0, 0.0])
    expected = np.zeros(4)
    for draw in np.ndindex(*(4,) * n):
        best = max(draw, key=lambda response: r[response])  # max takes the first, a fair choice among equals
        expected[best] += np.prod(p[list(draw)])
    assert np.exp(best_of_n(np.log(p), r, n)) == pytest.approx(expected)


@settings(deadline=None, max_examples=50)
@given(SEEDS, st.integers(1, 40))
def test_best_of_n_is_no_further_than_its_bound(seed, n):
    """And never earns more than the optimum does at the same KL."""
    log_reference, r = case(seed)
    log_p = best_of_n(log_reference, r, n)
    spent = kl_divergence(log_p, log_reference)
    assert spent <= best_of_n_kl(n) + 1e-9
    if 1e-6 < spent < 0.99 * kl_limit(log_reference, r):
        best = optimum(log_reference, r, beta_for_kl(log_reference, r, spent)).reward
        assert (np.exp(log_p) * r).sum() <= best + 1e-9


def test_the_bound_of_best_of_n_is_reached_by_many_responses():
    """2,000 equally likely responses of different reward: log n − (n − 1)/n to a thousandth."""
    log_reference, r = np.full(2000, -math.log(2000)), np.arange(2000.0)
    for n in (2, 4, 16):
        assert kl_divergence(best_of_n(log_reference, r, n), log_reference) == pytest.approx(
            best_of_n_kl(n), rel=5e-3
        )
    assert best_of_n_kl(1) == 0
    assert best_of_n_kl(4) == pytest.approx(0.6362943611)
    for function in (lambda: best_of_n_kl(0), lambda: best_of_n(log_reference, r, 0)):
        with pytest.raises(ValueError, match="n >= 1"):
            function()


@settings(deadline=None, max_examples=25)
@given(SEEDS, BETA)
def test_the_optimum_of_dpo_is_the_optimum(seed, beta):
    """At π*, β × the log-ratio is the reward up to a constant: DPO's loss is Bradley and Terry's."""
    log_reference, r = case(seed)
    log_best = torch.tensor(optimal_policy(log_reference, r, beta))
    reference, reward = torch.tensor(log_reference), torch.tensor(r)
    chosen, rejected = torch.tensor([0, 1, 2]), torch.tensor([3, 4, 5])
    torch.testing.assert_close(
        dpo_loss(beta)((log_best - reference)[chosen], (log_best - reference)[rejected]),
        bradley_terry(reward[chosen], reward[rejected]),
        rtol=1e-7,
        atol=1e-9,
    )


@settings(deadline=None, max_examples=25)
@given(SEEDS, st.floats(0.05, 5.0))
def test_the_optimum_scales_the_references_odds(seed, beta):
    """S4-58. Equal rewards keep the reference's odds at every β; to even them out costs β × the log-odds."""
    log_reference, r = case(seed)
    r[1] = r[0]
    log_p = optimal_policy(log_reference, r, beta)
    assert log_p[0] - log_p[1] == pytest.approx(log_reference[0] - log_reference[1], abs=1e-9)
    r[1] += beta * (log_reference[0] - log_reference[1])
    log_p = optimal_policy(log_reference, r, beta)
    assert log_p[0] == pytest.approx(log_p[1], abs=1e-9)


def test_no_reward_raises_a_probability_of_zero():
    """S4-58. A probability of 0 stays 0 for any reward at any KL coefficient."""
    log_p = optimal_policy([math.log(0.4), math.log(0.6), -np.inf], [0.0, 0.1, 1e6], 1e-3)
    assert log_p[2] == -np.inf


@pytest.mark.parametrize("moves", [1, 2, 5])
def test_a_moving_reference_divides_the_kl_coefficient(moves):
    """S4-21. A reference set to the optimum k times: the next one is that of β / (k + 1)."""
    log_reference, r = case(13)
    moved = log_reference
    for _ in range(moves):
        moved = optimal_policy(moved, r, 2.0)
    assert optimal_policy(moved, r, 2.0) == pytest.approx(optimal_policy(log_reference, r, 2.0 / (moves + 1)))


@pytest.mark.parametrize(
    ("kind", "first"), [("linear", 2.0), ("cosine", 2.0), ("linear", 0.1), ("cosine", 0.1)]
)
def test_the_last_coefficient_alone_decides_where_a_schedule_ends(kind, first):
    """S2-55. Exact ascent under a moving β: a falling one never goes beyond its end, a rising one does."""
    log_reference, r = case(12)
    log_p, kls = log_reference, []
    for update in range(400):
        beta = scheduled_coefficient(kind, first, 0.5, min(update, 199), 200)
        log_p = log_p + 0.05 * (r - beta * (log_p - log_reference))  # a step of mirror ascent
        log_p = log_p - np.logaddexp.reduce(log_p)
        kls.append(kl_divergence(log_p, log_reference))
    end = optimum(log_reference, r, 0.5).kl
    assert kls[-1] == pytest.approx(end, rel=0.01)
    assert max(kls) < 1.01 * end if first > 0.5 else max(kls) > 1.3 * end


def test_every_test_that_the_theory_page_names_exists():
    """Issue 3, item 8: each derivation of docs/theory.md is followed by the test that checks it."""
    root = Path(__file__).parents[2]
    page = (root / "docs" / "theory.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", page)
    assert len(named) > 30 and page.count("::") == len(named)
    for file, test in named:
        text = (root / "tests" / file).read_text(encoding="utf-8")
        assert re.search(rf"^def {test}\(", text, re.MULTILINE), (file, test)
