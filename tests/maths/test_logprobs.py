import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from harken.maths import logprobs as logprobs_module
from harken.maths.logits import LogitsHead
from harken.maths.logprobs import full_kl, linear_logprobs, token_logprobs

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "trl.json").read_text())["token_logprobs"]


def hidden_case(n=5, width=3, vocab=7, seed=0, dtype=torch.float64):
    random = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n, width, generator=random, dtype=torch.float64)
    weight = torch.randn(vocab, width, generator=random, dtype=torch.float64)
    return hidden.to(dtype), weight.to(dtype), torch.randint(vocab, (n,), generator=random)


def slow(logits, tokens, temperature):
    """Log-probability and entropy by the definition, a number at a time."""
    logprobs, entropies = [], []
    for row, token in zip(logits, tokens, strict=True):
        weights = [math.exp(value / temperature) for value in row]
        p = [w / math.fsum(weights) for w in weights]
        logprobs.append(math.log(p[token]))
        entropies.append(-math.fsum(q * math.log(q) for q in p))
    return logprobs, entropies


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.floats(0.3, 3.0))
def test_token_logprobs_is_the_definition(seed, temperature):
    """P6: at the temperature of sampling."""
    random = np.random.default_rng(seed)
    logits, tokens = random.normal(size=(4, 6)) * 3, random.integers(6, size=4)
    out = token_logprobs(torch.tensor(logits), torch.tensor(tokens), temperature)
    expected = slow(logits.tolist(), tokens.tolist(), temperature)[0]
    # A log-probability near 0 is a small difference of large numbers, in either way of computing it.
    np.testing.assert_allclose(out.numpy(), expected, rtol=1e-9, atol=1e-13)


def test_token_logprobs_agrees_with_trl():
    """TRL divides by temperature + 1e-7, hence the tolerance."""
    out = token_logprobs(
        torch.tensor(GOLDEN["logits"], dtype=torch.float64),
        torch.tensor(GOLDEN["tokens"]),
        GOLDEN["temperature"],
    )
    torch.testing.assert_close(
        out, torch.tensor(GOLDEN["logprobs"], dtype=torch.float64), rtol=1e-5, atol=1e-5
    )


def test_entropy_agrees_with_trl():
    logits = torch.tensor(GOLDEN["logits"], dtype=torch.float64).flatten(0, 1)
    tokens = torch.tensor(GOLDEN["tokens"]).flatten()
    _, entropy = linear_logprobs(
        logits, LogitsHead(torch.eye(7, dtype=torch.float64)), tokens, GOLDEN["temperature"]
    )
    expected = torch.tensor(GOLDEN["entropy"], dtype=torch.float64).flatten()
    torch.testing.assert_close(entropy, expected, rtol=1e-5, atol=1e-5)


def test_probabilities_of_all_tokens_sum_to_one():
    logits = torch.randn(1, 9, generator=torch.Generator().manual_seed(1)).expand(9, 9)
    assert token_logprobs(logits, torch.arange(9), 0.7).exp().sum().item() == pytest.approx(1.0, abs=1e-6)


def test_half_precision_logits_are_widened():
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(2)).bfloat16()
    out = token_logprobs(logits, torch.arange(3))
    assert out.dtype == torch.float32
    torch.testing.assert_close(
        out, token_logprobs(logits.double(), torch.arange(3)).float(), rtol=1e-6, atol=1e-6
    )


@pytest.fixture(params=[3, 4096], ids=lambda tile: f"tile{tile}")
def tile(request, monkeypatch):
    """Every test of a projection in one tile, and in several, the last of them narrower."""
    monkeypatch.setattr(logprobs_module, "TILE", request.param)


in_tiles = pytest.mark.usefixtures("tile")


@in_tiles
@pytest.mark.parametrize("chunk", [1, 2, 5, 256])
def test_linear_logprobs_match_the_definition_for_any_chunk(chunk):
    hidden, weight, tokens = hidden_case()
    logits = [
        [math.fsum(h * w for h, w in zip(row, col, strict=True)) for col in weight.tolist()]
        for row in hidden.tolist()
    ]
    logprobs, entropy = linear_logprobs(hidden, LogitsHead(weight), tokens, 0.7, chunk)
    expected = slow(logits, tokens.tolist(), 0.7)
    np.testing.assert_allclose(logprobs.numpy(), expected[0], rtol=1e-10)
    np.testing.assert_allclose(entropy.numpy(), expected[1], rtol=1e-10)


@in_tiles
@pytest.mark.parametrize("chunk", [2, 256])
def test_gradients_agree_with_finite_differences(chunk):
    hidden, weight, tokens = hidden_case()
    hidden.requires_grad_(), weight.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda h, w: linear_logprobs(h, LogitsHead(w), tokens, 0.7, chunk), (hidden, weight)
    )


@in_tiles
@pytest.mark.parametrize("trained", ["hidden", "weight", "both"])
def test_gradients_agree_with_autograd_through_all_logits(trained):
    hidden, weight, tokens = hidden_case(n=9)
    hidden.requires_grad_(trained != "weight"), weight.requires_grad_(trained != "hidden")
    wanted = [x for x in (hidden, weight) if x.requires_grad]
    log_p = torch.log_softmax(hidden @ weight.T / 1.3, -1)
    full = log_p[torch.arange(9), tokens].sum() - 0.2 * (log_p.exp() * log_p).sum()
    logprobs, entropy = linear_logprobs(hidden, LogitsHead(weight), tokens, 1.3, chunk=4)
    ours = torch.autograd.grad(logprobs.sum() + 0.2 * entropy.sum(), wanted)
    for gradient, expected in zip(ours, torch.autograd.grad(full, wanted), strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-12)


@in_tiles
def test_bfloat16_weights_give_float32_results_and_close_gradients():
    hidden, weight, tokens = hidden_case(n=40, width=16, vocab=60, dtype=torch.bfloat16)
    exact = hidden.double().requires_grad_()
    hidden.requires_grad_(), weight.requires_grad_()
    logprobs, entropy = linear_logprobs(hidden, LogitsHead(weight), tokens, chunk=16)
    assert logprobs.dtype == entropy.dtype == torch.float32
    expected, _ = linear_logprobs(exact, LogitsHead(weight.detach().double()), tokens)
    torch.testing.assert_close(logprobs.double(), expected, rtol=0.02, atol=0.05)
    logprobs.sum().backward(), expected.sum().backward()
    assert hidden.grad.dtype == weight.grad.dtype == torch.bfloat16
    assert torch.cosine_similarity(hidden.grad.double().flatten(), exact.grad.flatten(), dim=0) > 0.999


@in_tiles
def test_entropy_lies_between_zero_and_that_of_the_uniform():
    """P32 (S1-47): a true entropy, never negative."""
    hidden, weight, tokens = hidden_case(n=30, vocab=11)
    _, mixed = linear_logprobs(hidden, LogitsHead(weight), tokens)
    assert (mixed > 0).all()
    assert (mixed < math.log(11)).all()
    _, uniform = linear_logprobs(torch.zeros_like(hidden), LogitsHead(weight), tokens)
    torch.testing.assert_close(uniform, torch.full_like(uniform, math.log(11)))
    _, certain = linear_logprobs(hidden * 1e6, LogitsHead(weight), tokens)
    assert (certain >= 0).all()
    assert (certain < 1e-6).all()


class Largest(TorchDispatchMode):
    """Remembers the most numbers any tensor made inside it had."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, torch.Tensor):
                self.numel = max(self.numel, tensor.numel())
        return out


@in_tiles
def test_all_logits_never_exist_at_once():
    hidden, weight, tokens = hidden_case(n=400, width=4, vocab=100)
    hidden.requires_grad_()
    with Largest() as seen:
        logprobs, entropy = linear_logprobs(hidden, LogitsHead(weight), tokens, chunk=16)
        (logprobs.sum() + entropy.sum()).backward()
    assert 16 * 100 <= seen.numel <= 400 * 4 < 400 * 100


def test_no_tokens_are_no_trouble():
    logprobs, entropy = linear_logprobs(
        torch.zeros(0, 3), LogitsHead(torch.zeros(7, 3)), torch.zeros(0, dtype=torch.long)
    )
    assert logprobs.shape == entropy.shape == (0,)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("chunk", [2, 256])
def test_full_kl_is_the_definition(temperature, chunk):
    """Both at the temperature of sampling, the reference of another width; its gradient against differences."""
    hidden, weight, _ = hidden_case()
    other, reference_weight, _ = hidden_case(width=4, seed=1)
    found = full_kl(hidden, LogitsHead(weight), other, LogitsHead(reference_weight), temperature, chunk)
    for row, logits, of_reference in zip(
        found.tolist(), (hidden @ weight.T).tolist(), (other @ reference_weight.T).tolist(), strict=True
    ):
        tokens = range(len(logits))
        log_p = slow([logits] * len(logits), tokens, temperature)[0]
        log_q = slow([of_reference] * len(logits), tokens, temperature)[0]
        assert row == pytest.approx(
            math.fsum(math.exp(a) * (a - b) for a, b in zip(log_p, log_q, strict=True))
        )
    assert torch.autograd.gradcheck(
        lambda h, w: full_kl(h, LogitsHead(w), other, LogitsHead(reference_weight), temperature, chunk),
        (hidden.requires_grad_(), weight.requires_grad_()),
    )
