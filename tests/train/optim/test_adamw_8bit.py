"""Optimiser state in eight bits: training ends where AdamW ends."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from tiny import tiny_backbone
from torch import nn

from harken.config import RunConfig
from harken.config.training import SupervisedTraining
from harken.errors import UserError
from harken.records import TokenDemonstration
from harken.train.optim.optimiser import Optimiser
from harken.train.sft import SupervisedStage


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


def test_without_the_library_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else find(name)
    )
    with pytest.raises(UserError, match=r"needs the package bitsandbytes.*harken\[quantised\]"):
        regression("adamw_8bit", 1)
