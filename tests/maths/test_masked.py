import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harken.maths.masked import masked_mean, whiten

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "trl.json").read_text())["ppo"]


def case(seed):
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(4, 7, generator=random, dtype=torch.float64) * 3 + 2
    mask = torch.rand(4, 7, generator=random) < 0.5
    mask[0, :2] = True
    return x, mask


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000))
def test_the_mean_is_that_of_the_selected_numbers(seed):
    x, mask = case(seed)
    chosen = [v for v, m in zip(x.flatten().tolist(), mask.flatten().tolist(), strict=True) if m]
    assert masked_mean(x, mask).item() == pytest.approx(math.fsum(chosen) / len(chosen), abs=1e-12)


def test_the_mean_of_nothing_is_zero():
    assert masked_mean(torch.full((2, 3), math.nan), torch.zeros(2, 3, dtype=torch.bool)).item() == 0.0


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000))
def test_whiten_is_the_definition_over_the_whole_batch(seed):
    """P26 (S2-37): one mean and one deviation for the batch. P27: the variance is the biased one."""
    x, mask = case(seed)
    chosen = x[mask].numpy()
    expected = (chosen - np.mean(chosen)) / np.sqrt(np.var(chosen, ddof=0) + 1e-8)
    out = whiten(x, mask)
    np.testing.assert_allclose(out[mask].numpy(), expected, rtol=1e-10)
    assert torch.equal(out[~mask], torch.zeros_like(out[~mask]))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000))
def test_standardised_numbers_have_mean_zero_and_deviation_one(seed):
    """P26: the mean is removed."""
    out = whiten(*case(seed))[case(seed)[1]]
    assert abs(out.mean().item()) < 1e-12
    assert out.square().mean().item() == pytest.approx(1.0, rel=1e-6)


def test_rows_share_one_mean():
    """P26: a good row stays above a bad one; whitening each row by itself would make them equal."""
    x = torch.tensor([[1.0, 2.0], [11.0, 12.0]])
    out = whiten(x, torch.ones(2, 2, dtype=torch.bool))
    assert (out[1] > 0).all()
    assert (out[0] < 0).all()


def test_whiten_agrees_with_trl():
    """TRL divides by the unbiased deviation: its numbers are ours × sqrt((n - 1) / n)."""
    mask = ~torch.tensor(GOLDEN["padding_mask"])
    out = whiten(torch.tensor(GOLDEN["unwhitened_advantages"], dtype=torch.float64), mask)
    n = int(mask.sum())
    expected = torch.tensor(GOLDEN["advantages"], dtype=torch.float64)
    torch.testing.assert_close(out * math.sqrt((n - 1) / n), expected, rtol=1e-6, atol=1e-9)


def test_equal_numbers_become_zero():
    out = whiten(torch.full((2, 3), 5.0), torch.ones(2, 3, dtype=torch.bool))
    assert torch.equal(out, torch.zeros(2, 3))


@pytest.mark.parametrize("poison", [math.nan, math.inf, 1e30])
def test_masked_values_never_leak(poison):
    """P24: neither into the result nor into the gradient."""
    clean, mask = case(3)
    dirty = torch.where(mask, clean, poison).requires_grad_()
    for function in (masked_mean, whiten):
        torch.testing.assert_close(function(dirty, mask), function(clean, mask), rtol=0, atol=0)
        (gradient,) = torch.autograd.grad(function(dirty, mask).square().sum(), dirty)
        assert torch.isfinite(gradient).all()
        assert torch.equal(gradient[~mask], torch.zeros_like(gradient[~mask]))
