"""In which type matrices are multiplied, on a processor with 16-bit multiplications and on one without."""

from __future__ import annotations

import pytest
import torch

from harken.maths import matmul_dtype as module
from harken.maths.logits import LogitsHead
from harken.maths.logprobs import full_kl, linear_logprobs
from harken.maths.matmul_dtype import matmul_dtype, to_matmul_dtype, without_autocast

CPU = torch.device("cpu")


@pytest.fixture(params=[True, False], ids=["in 16 bits", "in float32"])
def natively(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(module, "has_native_bf16_matmul", lambda: request.param)
    return bool(request.param)


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def test_only_16_bits_on_a_cpu_without_them_are_widened(natively: bool) -> None:
    narrow = torch.bfloat16 if natively else torch.float32
    assert matmul_dtype(torch.bfloat16, CPU) == narrow
    assert matmul_dtype(torch.bfloat16, torch.device("cuda")) == torch.bfloat16
    for dtype in (torch.float32, torch.float64):
        assert matmul_dtype(dtype, CPU) == dtype
        x = drawn(2, 3, dtype=dtype)
        assert to_matmul_dtype(x) is x


def test_autocast_does_not_narrow_a_product_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen on sums that 16 bits cannot hold: the product itself is float32, and rounded at the end."""
    monkeypatch.setattr(module, "has_native_bf16_matmul", lambda: False)
    narrowed: list[torch.dtype] = []
    multiply = torch.matmul

    class Seen(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            result = function(*args, **(kwargs or {}))
            if function in (torch.Tensor.matmul, multiply, torch.Tensor.__matmul__):
                narrowed.append(result.dtype)
            return result

    with torch.autocast("cpu", torch.bfloat16), Seen(), without_autocast(CPU):
        _ = to_matmul_dtype(drawn(2, 3)) @ to_matmul_dtype(drawn(3, 2))
    assert narrowed == [torch.float32]


def test_logits_of_16_bit_weights_are_not_rounded_where_products_are_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Log-probabilities, entropies, the full KL and their gradients, against float64 on the same weights."""
    monkeypatch.setattr(module, "has_native_bf16_matmul", lambda: False)
    tokens = torch.arange(9) * 11
    states, weight, reference = drawn(9, 16), drawn(5000, 16, seed=1), drawn(9, 16, seed=2)
    hidden, trained = states.clone().requires_grad_(), weight.clone().requires_grad_()
    logprobs, entropy = linear_logprobs(hidden, LogitsHead(trained), tokens, 0.7, chunk=4)
    kl = full_kl(hidden, LogitsHead(trained), reference, LogitsHead(weight), chunk=4)
    (logprobs.sum() + entropy.sum() + kl.sum()).backward()
    x, w = states.double().requires_grad_(), weight.double().requires_grad_()
    log_p = torch.log_softmax(x @ w.T / 0.7, -1)
    of_tokens, spread = log_p[torch.arange(9), tokens], -(log_p.exp() * log_p).sum(-1)
    log_q = torch.log_softmax(reference.double() @ weight.double().T, -1)
    log_p1 = torch.log_softmax(x @ w.T, -1)
    distance = (log_p1.exp() * (log_p1 - log_q)).sum(-1)
    (of_tokens.sum() + spread.sum() + distance.sum()).backward()
    for found, exact in ((logprobs, of_tokens), (entropy, spread), (kl, distance)):
        torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-5 * float(exact.abs().max()))
    for leaf, truth in ((hidden, x), (trained, w)):
        assert leaf.grad is not None
        assert truth.grad is not None
        assert leaf.grad.dtype == torch.bfloat16
        largest = float(truth.grad.abs().max())
        torch.testing.assert_close(leaf.grad.double(), truth.grad, rtol=2**-8, atol=2**-8 * largest)
