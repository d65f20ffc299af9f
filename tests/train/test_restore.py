"""Saved state goes back whole, or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from harken.errors import UserError
from harken.train.restore import restore


class Stage:
    """Two weights and a count."""

    total = 3

    def __init__(self) -> None:
        self.weights = {"parameter/a": torch.zeros(2, 3), "parameter/b": torch.zeros(())}
        self.count = 0

    def tensors(self) -> dict[str, Tensor]:
        return self.weights

    def load(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        self.count = int(state["count"])
        for name, weight in self.weights.items():
            weight.copy_(tensors[name])


GOOD = {"parameter/a": torch.ones(2, 3), "parameter/b": torch.ones(())}


def test_matching_tensors_are_loaded(tmp_path: Path) -> None:
    stage = Stage()
    restore(stage, 3, GOOD, {"count": 7}, tmp_path)
    assert stage.count == 7 and float(stage.weights["parameter/a"].sum()) == 6.0


@pytest.mark.parametrize(
    ("step", "tensors", "state", "reported"),
    [
        (4, GOOD, {"count": 1}, "checkpoint is of step 4, but the run now has 3 steps"),
        (1, {"parameter/a": GOOD["parameter/a"]}, {"count": 1}, "parameter/b is missing"),
        (1, GOOD | {"parameter/a": torch.ones(1, 3)}, {"count": 1}, r"shape \[1, 3\], not \[2, 3\]"),
        (1, GOOD | {"parameter/a": torch.ones(())}, {"count": 1}, r"shape \[\], not \[2, 3\]"),
        (1, GOOD | {"adam/exp_avg/a": torch.ones(1)}, {"count": 1}, "has 1 numbers, not 6"),
        (1, GOOD, {}, "KeyError: 'count'"),
        (1, GOOD, {"count": "many"}, "ValueError"),
        (1, GOOD, {"count": []}, "TypeError"),
    ],
)
def test_mismatched_tensors_are_named(
    step: int, tensors: dict[str, Tensor], state: dict[str, Any], reported: str, tmp_path: Path
) -> None:
    """A tensor that torch would spread over a larger one is refused before anything is copied."""
    stage = Stage()
    with pytest.raises(UserError, match=reported) as refused:
        restore(stage, step, tensors, state, tmp_path)
    assert f"step-{step:06d}" in refused.value.where and refused.value.fix
    assert float(stage.weights["parameter/a"].abs().sum()) == 0.0


def test_moments_of_eight_bits_are_of_another_shape(tmp_path: Path) -> None:
    moments = {"adam/exp_avg/a": torch.zeros(1, 256), "adam/exp_avg_scale/a": torch.zeros(1)}
    restore(Stage(), 1, GOOD | moments, {"count": 1}, tmp_path)
