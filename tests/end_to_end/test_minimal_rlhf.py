"""examples/minimal_rlhf.py does what it says, and its formulas are those of `harken.maths` (S4-56).

HARKEN_EXERCISE=my_file.py puts another file in its place: see examples/README.md.
"""

import copy
import importlib.util
import os
import random
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from harken.maths.advantage import gae, token_rewards
from harken.maths.kl import k1
from harken.maths.logprobs import token_logprobs
from harken.maths.masked import whiten
from harken.maths.policy_loss import clipped_policy_loss
from harken.maths.preference_loss import bradley_terry

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(file):
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


minimal = load(Path(os.environ.get("HARKEN_EXERCISE") or EXAMPLES / "minimal_rlhf.py").resolve())


@pytest.fixture(scope="module")
def run():
    """The whole program, once: (rlhf, history)."""
    return minimal.main(seed=0)


@pytest.fixture(scope="module")
def untrained():
    """A random model with a value head that is not 0, prompts, and its own responses."""
    torch.manual_seed(5)
    model = minimal.Model()
    nn.init.normal_(model.head.weight)
    prompts = minimal.make_prompts(64, random.Random(5))
    responses, logprobs = minimal.generate_with_logprobs(model, prompts)
    return model, prompts, responses, logprobs


def tensors(seed):
    """Two sets of log-probabilities, values, rewards, and a mask as responses of different length have it."""
    random_ = torch.Generator().manual_seed(seed)
    shape = (16, minimal.RESPONSE)
    new, old, values = (torch.randn(shape, generator=random_) for _ in range(3))
    length = torch.randint(1, minimal.RESPONSE + 1, (16, 1), generator=random_)
    return new, old, values, torch.randn(16, generator=random_), torch.arange(minimal.RESPONSE) < length


def test_the_kl_is_k1():
    new, reference, _, _, mask = tensors(1)
    found = minimal.compute_kl(new, reference, mask)
    torch.testing.assert_close(found[mask], k1(new, reference)[mask])
    assert torch.equal(found[~mask], torch.zeros_like(found[~mask]))


@pytest.mark.parametrize("lam", [1.0, 0.95, 0.0])
def test_the_advantages_are_those_of_the_project(lam):
    """KL in the reward, GAE, returns before whitening; what is outside the response is never read."""
    kl, _, values, reward, mask = tensors(2)
    rewards = token_rewards(reward, kl, mask, 0.3)
    expected = gae(rewards, values, mask, 1.0, lam)
    poisoned = (torch.where(mask, x, 1e6) for x in (kl, values))
    advantages, returns = minimal.compute_advantages(reward, *poisoned, mask, beta=0.3, lam=lam)
    torch.testing.assert_close(returns[mask], (expected + values)[mask])
    torch.testing.assert_close(advantages[mask], whiten(expected, mask)[mask], rtol=1e-4, atol=1e-5)


def test_the_losses_are_those_of_the_project():
    new, old, advantages, reward, _ = tensors(3)
    torch.testing.assert_close(
        minimal.policy_loss(new, old, advantages), clipped_policy_loss(new, old, advantages, 0.2)
    )
    torch.testing.assert_close(
        minimal.preference_loss(reward[:8], reward[8:]), bradley_terry(reward[:8], reward[8:])
    )


def test_sampled_and_scored_logprobs_agree(untrained):
    """Property 5, 7: the log-probabilities of the sampler are those of the training forward."""
    model, prompts, responses, logprobs = untrained
    mask = minimal.response_mask_of(responses)
    scored, _ = model.evaluate(prompts, responses)
    torch.testing.assert_close(scored[mask], logprobs[mask], rtol=1e-4, atol=1e-5)
    logits = model.logits(model(torch.cat([prompts, responses], 1)))
    for t in range(minimal.RESPONSE):
        expected = token_logprobs(logits[:, minimal.PROMPT - 1 + t], responses[:, t])
        torch.testing.assert_close(scored[:, t], expected)


def test_the_response_mask_ends_with_the_end_token(untrained):
    """Property 8."""
    for row, mask in zip(untrained[2].tolist(), minimal.response_mask_of(untrained[2]).tolist(), strict=True):
        length = row.index(minimal.END) + 1 if minimal.END in row else minimal.RESPONSE
        assert mask == [t < length for t in range(minimal.RESPONSE)]
        assert row[length:] == [minimal.PAD] * (minimal.RESPONSE - length)


def test_values_and_rewards_see_what_they_should(untrained):
    """Properties 13, 25: V before a token does not know it; the reward knows the last response token, no padding."""
    model, prompts, responses, _ = untrained
    _, values = model.evaluate(prompts, responses)
    for t in range(minimal.RESPONSE):
        changed = responses.clone()
        changed[:, t] = (changed[:, t] + 1) % len(minimal.LETTERS)
        _, other = model.evaluate(prompts, changed)
        torch.testing.assert_close(other[:, : t + 1], values[:, : t + 1])
        assert t == minimal.RESPONSE - 1 or not torch.allclose(other[:, t + 1], values[:, t + 1])
    short = torch.tensor([[0, 1, minimal.END, minimal.PAD, minimal.PAD, minimal.PAD]]).expand(64, -1)
    behind = short.clone()
    behind[:, 3:] = 2
    torch.testing.assert_close(model.reward(prompts, behind), model.reward(prompts, short))
    other_end = short.clone()
    other_end[:, 1] = 4
    assert not torch.allclose(model.reward(prompts, other_end), model.reward(prompts, short))


def test_a_step_starts_at_ratio_one_and_moves_the_policy_alone():
    """Properties 28, 37, and S4-56: several optimiser steps an update, reference and reward model frozen."""
    torch.manual_seed(6)
    policy, reward_model = minimal.Model(), minimal.Model()
    nn.init.normal_(reward_model.head.weight)
    rlhf = minimal.MinimalRLHF(policy, reward_model)
    before = [p.clone() for m in (policy, rlhf.reference, reward_model) for p in m.parameters()]
    measured = rlhf.ppo_step(minimal.make_prompts(32, random.Random(6)))
    after = [p for m in (policy, rlhf.reference, reward_model) for p in m.parameters()]
    same = [torch.equal(b, a) for b, a in zip(before, after, strict=True)]
    third = len(same) // 3
    assert not any(same[:third]) and all(same[third:])
    assert measured["kl"] == pytest.approx(0.0, abs=1e-6)
    assert {int(state["step"]) for state in rlhf.adam.state.values()} == {4}


@pytest.mark.sample(0)
def test_sft_responses_end(run):
    """S4-56. Demonstrations taught the end token: the SFT model stops, copies or reverses."""
    rlhf, _ = run
    prompts = minimal.make_prompts(400, random.Random(7))
    responses, _ = minimal.generate_with_logprobs(rlhf.reference, prompts)
    assert (responses == minimal.END).any(1).float().mean() > 0.97
    letters = prompts[:, :4]
    copied = (responses[:, :4] == letters).all(1).float().mean()
    turned = (responses[:, :4] == letters.flip(1)).all(1).float().mean()
    assert copied + turned > 0.8 and 0.25 < copied < 0.75


@pytest.mark.sample(0)
def test_the_reward_model_agrees_with_the_gold_score(run):
    """S4-56. On fresh pairs that differ, it prefers what people prefer nine times in ten."""
    rlhf, _ = run
    prompts = minimal.make_prompts(400, random.Random(8))
    one, two = (minimal.generate_with_logprobs(rlhf.reference, prompts)[0] for _ in range(2))
    liked = minimal.gold_score(prompts, one) - minimal.gold_score(prompts, two)
    scored = rlhf.reward_model.reward(prompts, one) - rlhf.reward_model.reward(prompts, two)
    assert ((liked > 0) == (scored > 0))[liked != 0].float().mean() > 0.9


@pytest.mark.sample(0)
def test_reward_rises_at_a_kl_that_stays_bounded(run):
    """S4-56. Ten updates: reward and gold score up, KL above 0 and near log 2, four measures an update."""
    _, history = run
    assert len(history) == 10
    assert {"reward", "kl", "policy loss", "value loss"} <= set(history[0])
    first, last = history[0], history[-1]
    assert last["reward"] > first["reward"] + 1.0
    assert last["gold score"] > max(first["gold score"] + 0.2, 0.9)
    assert first["kl"] == pytest.approx(0.0, abs=1e-5)
    assert 0.3 < last["kl"] < 2.0


@pytest.mark.sample(0)
def test_a_high_kl_coefficient_holds_the_policy(run):
    """S4-54, S4-56: with β = 50 the same ten updates stay at the reference."""
    rlhf, history = run
    torch.manual_seed(9)
    start = copy.deepcopy(rlhf.reference).requires_grad_(True)
    held = minimal.MinimalRLHF(start, rlhf.reward_model, beta=50.0)
    last = held.train(random.Random(9))[-1]
    assert last["kl"] < 0.1
    assert last["gold score"] < history[-1]["gold score"] - 0.1


def test_it_is_short_and_needs_torch_alone():
    """S4-56: at most 250 lines, PyTorch and the standard library."""
    text = (EXAMPLES / "minimal_rlhf.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 250
    imported = set(re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE))
    assert imported == {"copy", "random", "torch"}


def test_the_exercise_is_the_file_without_its_formulas(tmp_path):
    """S4-56. Signatures, docstrings and everything else stay; each formula asks to be written."""
    exercise, file = load(EXAMPLES / "exercise.py"), tmp_path / "mine.py"
    assert exercise.main([str(file)]) == 0
    assert exercise.main([str(file)]) == 2  # what a learner wrote is never overwritten
    text = file.read_text(encoding="utf-8")
    solution = (EXAMPLES / "minimal_rlhf.py").read_text(encoding="utf-8")
    assert text.count("raise NotImplementedError") == len(exercise.FORMULAS)
    kept = [line for line in text.splitlines() if "NotImplementedError" not in line]
    assert all(line in solution.splitlines() for line in kept)
    mine = load(file)
    with pytest.raises(NotImplementedError, match="write compute_kl"):
        mine.compute_kl(torch.zeros(1), torch.zeros(1), torch.ones(1, dtype=torch.bool))
    assert mine.compute_advantages.__doc__ == minimal.compute_advantages.__doc__
