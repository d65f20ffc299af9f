"""One uniform number → one token: exactly softmax(logits / temperature)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch import Tensor

from harken.rollout.sampler import CUMSUM_BLOCK, sample_tokens


def spread(vocab: int, seed: int = 0, scale: float = 2.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=vocab) * scale


def drawn(logits: np.ndarray, uniforms: np.ndarray, temperature: float) -> tuple[Tensor, Tensor]:
    rows = torch.tensor(logits, dtype=torch.float32).expand(len(uniforms), -1)
    return sample_tokens(rows, torch.tensor(uniforms), temperature)


@pytest.mark.parametrize(
    "vocab", [3, CUMSUM_BLOCK - 1, CUMSUM_BLOCK, CUMSUM_BLOCK + 1, 5 * CUMSUM_BLOCK + 17]
)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_a_token_holds_its_stretch_of_the_unit_interval(vocab: int, temperature: float) -> None:
    """P5: against the cumulative sum in float64, at the middle of every token's stretch."""
    logits = spread(vocab).astype(np.float32).astype(np.float64)
    p = special.softmax(logits / temperature)
    middles = np.cumsum(p) - p / 2
    wide = p > 1e-6
    tokens, logprobs = drawn(logits, middles[wide], temperature)
    assert tokens.tolist() == np.flatnonzero(wide).tolist()
    np.testing.assert_allclose(logprobs.numpy(), np.log(p[wide]), atol=1e-5)


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_frequencies_are_the_softmax(temperature: float) -> None:
    """P5, P6: chi-square over 40,000 draws, with tokens across two blocks."""
    logits = spread(CUMSUM_BLOCK + 40, seed=3)
    counts = np.bincount(
        drawn(logits, np.random.default_rng(5).random(40_000), temperature)[0].numpy(), minlength=len(logits)
    )
    expected = special.softmax(logits / temperature) * counts.sum()
    rare = expected < 10
    counts = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    assert stats.chisquare(counts, expected).pvalue > 0.01


def test_a_token_without_probability_is_never_drawn() -> None:
    """Also not by the smallest and largest numbers a generator gives, in any block."""
    possible = [5, CUMSUM_BLOCK + 3, CUMSUM_BLOCK + 200]
    logits = np.full(3 * CUMSUM_BLOCK, -np.inf)
    logits[possible] = 0.0
    uniforms = np.array(
        [0.0, 5e-324, 1 / 3, 2 / 3, np.nextafter(1, 0), *np.random.default_rng(0).random(500)]
    )
    tokens, logprobs = drawn(logits, uniforms, 1.0)
    assert set(tokens.tolist()) == set(possible)
    assert (tokens[0], tokens[4]) == (possible[0], possible[2])
    torch.testing.assert_close(logprobs, torch.full_like(logprobs, -np.log(3)))


def test_a_long_flat_tail_keeps_its_weight() -> None:
    """One token has half of the mass, 150,000 share the other: rounding in float32 would lose some of it."""
    logits = np.zeros(150_001)
    logits[0] = np.log(150_000)
    uniforms = (np.arange(200) + 0.5) / 200
    tokens, _ = drawn(logits, uniforms, 1.0)
    exact = np.where(uniforms < 0.5, 0, 1 + np.floor((uniforms - 0.5) * 300_000))
    assert np.abs(tokens.numpy() - exact).max() <= 1


def test_greedy_is_the_likeliest_and_the_first_of_equals() -> None:
    logits = torch.tensor([[0.0, 3.0, 3.0, -1.0], [9.0, 0.0, 1.0, 8.0]])
    tokens, logprobs = sample_tokens(logits, torch.tensor([0.99, 0.99]), 0.0)
    assert tokens.tolist() == [1, 0]
    exact = special.log_softmax(logits.double().numpy(), axis=-1)
    np.testing.assert_allclose(logprobs.numpy(), [exact[0, 1], exact[1, 0]], atol=1e-6)


def test_the_logits_of_the_caller_stay_as_they_are() -> None:
    logits = torch.tensor([[1.0, 2.0]], dtype=torch.bfloat16)
    sample_tokens(logits, torch.tensor([0.3]), 0.5)
    assert logits.tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_nan_shows(temperature: float) -> None:
    _, logprobs = sample_tokens(torch.tensor([[0.0, torch.nan, 1.0]]), torch.tensor([0.5]), temperature)
    assert logprobs.isnan().all()
