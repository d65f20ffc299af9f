"""Moments of eight bits: the published levels, the nearest one, and training that ends where AdamW ends."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import tiny_backbone
from torch import Tensor, nn

from harken.config import RunConfig
from harken.config.training import SupervisedTraining
from harken.records import TokenDemonstration
from harken.train.optim import adamw_chunked
from harken.train.optim.adamw_8bit import BLOCK, POSITIVE, SIGNED, quantised, restored
from harken.train.optim.optimiser import Optimiser
from harken.train.sft import SupervisedStage


def test_the_levels_are_the_published_ones() -> None:
    """By the paper's bits: a sign, k zeros for 10^-k, a one, and the rest a linear fraction of 0.1 … 1."""
    want = {0.0, 1.0}
    for zeros in range(7):
        fraction_bits = 7 - 1 - zeros
        marks = np.linspace(0.1, 1.0, 2**fraction_bits + 1)
        middles = (marks[1:] + marks[:-1]) / 2 * 10.0**-zeros
        want |= set(middles) | set(-middles)
    assert len(want) == 256
    assert np.allclose(SIGNED.numpy(), sorted(want), rtol=1e-6, atol=0)
    assert len(POSITIVE) == 256 and bool((POSITIVE.diff() > 0).all())
    assert POSITIVE[0] > 0 and POSITIVE[-1] == 1


@pytest.mark.parametrize("levels", [SIGNED, POSITIVE], ids=["signed", "positive"])
def test_every_number_goes_to_the_nearest_level(levels: Tensor) -> None:
    """Against a search over all levels in float64; a block knows its own scale only."""
    values = torch.randn(3 * BLOCK + 20, generator=torch.Generator().manual_seed(0))
    values[BLOCK : 2 * BLOCK] *= 1e-6
    values[2 * BLOCK : 3 * BLOCK] = 0.0
    values = values if levels is SIGNED else values.square()
    index, scale = quantised(values, levels)
    assert index.dtype == torch.uint8 and index.shape == (4, BLOCK) and scale.shape == (4,)
    got = restored(index, scale, levels)[: len(values)]
    for start in range(0, len(values), BLOCK):
        block = values[start : start + BLOCK].numpy().astype(np.float64)
        choices = np.abs(block).max() * levels.numpy().astype(np.float64)
        nearest = np.abs(block[:, None] - choices).min(1)
        assert np.allclose(
            np.abs(got[start : start + BLOCK].numpy() - block), nearest, atol=1e-7 * choices[-1]
        )
    assert bool((got[2 * BLOCK : 3 * BLOCK] == 0).all())


def test_rounding_again_changes_nothing() -> None:
    """What rests and is opened without a step rests as before."""
    values = torch.randn(4 * BLOCK, generator=torch.Generator().manual_seed(1))
    index, scale = quantised(values, SIGNED)
    again, scale_again = quantised(restored(index, scale, SIGNED), SIGNED)
    # The largest negative level is -0.993: a block whose largest number is negative shrinks by it.
    positive = (values.view(-1, BLOCK).amax(1) == scale).nonzero().ravel()
    assert len(positive)
    assert torch.equal(again[positive], index[positive])
    assert torch.equal(scale_again[positive], scale[positive])


def regression(kind: str, steps: int = 300) -> list[float]:
    """Losses of a least-squares fit, 64 → 80 → 64, with inputs of very different sizes and noise on the targets."""
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(512, 64, generator=draw) * torch.logspace(-2, 0, 64)
    targets = inputs @ torch.randn(64, 64, generator=draw) + 0.1 * torch.randn(512, 64, generator=draw)
    first = nn.Parameter(torch.randn(64, 80, generator=draw) / 8)
    second = nn.Parameter(torch.randn(80, 64, generator=draw) / 9)
    training = SupervisedTraining.model_validate({"type": "sft", "lr": 0.01, "optimizer": kind})
    optimiser = Optimiser({"first": first, "second": second}, training)
    losses = []
    for step in range(steps):
        some = torch.arange(64) + 64 * (step % 8)
        loss = (inputs[some] @ first @ second - targets[some]).square().mean()
        loss.backward()
        optimiser.clip_and_step(1.0 - step / steps)
        losses.append(float(loss.detach()))
    return losses


def test_a_regression_ends_where_adamw_ends() -> None:
    """Within a tenth of its loss, after a fall to a hundredth; and on another way, for the bits are fewer."""
    plain, eight = regression("adamw"), regression("adamw_8bit")
    end, end_eight = np.mean(plain[-8:]), np.mean(eight[-8:])
    assert end < plain[0] / 100
    assert end_eight == pytest.approx(end, rel=0.1)
    assert eight != plain


def language_model(kind: str) -> SupervisedStage:
    """Every weight of a small Llama, to answer with the first letter of the prompt."""
    rows = [
        TokenDemonstration(f"r{i}", (9 + i, 50 + i % 5, 60, 9 + i, 9 + i, 2), (*[False] * 3, *[True] * 3))
        for i in range(12)
    ]
    training = {"type": "sft", "lr": 1e-3, "batch_size": 6, "epochs": 20, "optimizer": kind}
    keys = {"dtype": "float32", "data": {"path": "rows"}, "lora": None, "training": training}
    return SupervisedStage(RunConfig.model_validate(keys), tiny_backbone(), rows, rows)


def test_a_language_model_ends_where_adamw_ends() -> None:
    """Loss of a small Llama, every weight trained: within 1 % of the fall that AdamW brings."""
    found = {}
    for kind in ("adamw", "adamw_8bit"):
        trained = language_model(kind)
        start = trained.evaluate(0)["eval/loss"]
        for number in range(trained.total):
            trained.step(number)
        found[kind] = trained.evaluate(trained.total)["eval/loss"]
    assert found["adamw"] < 0.5 * start
    assert abs(found["adamw_8bit"] - found["adamw"]) < 0.01 * (start - found["adamw"])


def test_pieces_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = regression("adamw_8bit", 5)
    monkeypatch.setattr(adamw_chunked, "PIECE", 2 * BLOCK)
    assert regression("adamw_8bit", 5) == whole
