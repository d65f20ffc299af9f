"""The head against its definition, written out slowly, and its gradients against differences and autograd."""

import math

import pytest
import torch

from harken.maths import logprobs as logprobs_module
from harken.maths.logits import LogitsHead
from harken.maths.logprobs import full_kl, linear_logprobs

HEADS = {
    "bias": {"bias": True},
    "scale": {"scale": 0.25},
    "cap": {"softcap": 3.0},
    "bias and scale": {"bias": True, "scale": 2.5},
    "all": {"bias": True, "scale": 1.7, "softcap": 2.0},
}
kinds = pytest.mark.parametrize("kind", HEADS)


@pytest.fixture(params=[2, 3, 1024], autouse=True)
def tile(request, monkeypatch):
    monkeypatch.setattr(logprobs_module, "TILE", request.param)


def case(kind, n=5, width=3, vocab=7, seed=0, dtype=torch.float64):
    """Hidden states, a head of this kind, and tokens."""
    draw = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n, width, generator=draw, dtype=torch.float64).to(dtype)
    weight = 2 * torch.randn(vocab, width, generator=draw, dtype=torch.float64).to(dtype)
    bias = 3 * torch.randn(vocab, generator=draw, dtype=torch.float64).to(dtype)
    tokens = torch.randint(vocab, (n,), generator=draw)
    settings = dict(HEADS[kind])
    given = bias if settings.pop("bias", False) else None
    return hidden, LogitsHead(weight, given, **settings), tokens


def slow(hidden, head):
    """The definition, a number at a time."""
    rows = []
    for state in hidden.tolist():
        row = []
        for number, column in enumerate(head.weight.tolist()):
            z = math.fsum(a * b for a, b in zip(state, column, strict=True))
            z = head.scale * (z + (head.bias[number].item() if head.bias is not None else 0.0))
            row.append(z if head.softcap is None else head.softcap * math.tanh(z / head.softcap))
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float64)


@kinds
def test_logits_are_the_definition(kind):
    hidden, head, _ = case(kind)
    torch.testing.assert_close(head(hidden), slow(hidden, head), rtol=1e-12, atol=1e-12)
    assert head.softcap is None or float(head(1e6 * hidden).abs().max()) <= head.softcap


@kinds
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_and_entropy_are_those_of_the_definition(kind, temperature):
    hidden, head, tokens = case(kind)
    log_p = torch.log_softmax(slow(hidden, head) / temperature, -1)
    logprobs, entropy = linear_logprobs(hidden, head, tokens, temperature, chunk=2)
    torch.testing.assert_close(logprobs, log_p[torch.arange(5), tokens], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(entropy, -(log_p.exp() * log_p).sum(-1), rtol=1e-10, atol=1e-10)


@pytest.mark.sample(10)
@kinds
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_gradients_go_through_bias_scale_and_cap(kind, temperature):
    """Against differences, in the hidden states, the weight and the bias, of log-probability and entropy."""
    hidden, head, tokens = case(kind)
    leaves = [hidden.requires_grad_(), head.weight.requires_grad_()]
    if head.bias is not None:
        leaves.append(head.bias.requires_grad_())

    def ours(*_: torch.Tensor) -> object:
        return linear_logprobs(hidden, head, tokens, temperature, 2)

    assert torch.autograd.gradcheck(ours, leaves)


@pytest.mark.sample(5)
@kinds
def test_full_kl_compares_what_the_heads_give(kind):
    """Also where the reference has another head; its gradient against differences."""
    hidden, head, _ = case(kind)
    other, reference, _ = case("all", width=4, seed=1)
    log_p, log_q = (torch.log_softmax(slow(*of) / 0.8, -1) for of in ((hidden, head), (other, reference)))
    found = full_kl(hidden, head, other, reference, 0.8, chunk=2)
    torch.testing.assert_close(found, (log_p.exp() * (log_p - log_q)).sum(-1), rtol=1e-10, atol=1e-10)
    leaves = [hidden.requires_grad_(), head.weight.requires_grad_()]
    assert torch.autograd.gradcheck(lambda *_: full_kl(hidden, head, other, reference, 0.8, 2), leaves)


@kinds
def test_sixteen_bits_end_in_float32(kind):
    """Bias, scale and cap act on the wide product: rounding is that of the product alone."""
    hidden, head, tokens = case(kind, n=20, width=16, vocab=50, dtype=torch.bfloat16)
    assert head(hidden).dtype == torch.float32
    bias = None if head.bias is None else head.bias.double()
    exact = LogitsHead(head.weight.double(), bias, head.scale, head.softcap)
    found, _ = linear_logprobs(hidden, head, tokens)
    expected, _ = linear_logprobs(hidden.double(), exact, tokens)
    largest = float((hidden.double() @ exact.weight.T).abs().max())
    assert float((found.double() - expected).abs().max()) <= 2 * head.scale * largest * 2**-8
