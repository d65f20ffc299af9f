"""AdamW, its schedule, clipping and its saved state, against torch used plainly and formulas by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from harken.config_training import SupervisedTraining
from harken.errors import UserError
from harken.train.optimiser import Optimiser, schedule


def settings(**keys: object) -> SupervisedTraining:
    return SupervisedTraining.model_validate({"type": "sft", **keys})


def test_schedules() -> None:
    """P35: linear to 0; the warm-up climbs to exactly 1."""
    linear = settings(warmup_steps=4)
    assert [schedule(s, 8, linear) for s in range(8)] == [0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25]
    constant = settings(lr_schedule="constant")
    assert {schedule(s, 8, constant) for s in range(8)} == {1.0}
    cosine = settings(lr_schedule="cosine")
    assert schedule(2, 8, cosine) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)


def make(**keys: object) -> tuple[Optimiser, dict[str, nn.Parameter]]:
    torch.manual_seed(0)
    parameters = {name: nn.Parameter(torch.randn(3, 2)) for name in ("a", "b")}
    return Optimiser(parameters, settings(**keys), {"b": 0.5}), parameters


def gradients(parameters: dict[str, nn.Parameter], step: int) -> None:
    draw = torch.Generator().manual_seed(step)
    for parameter in parameters.values():
        parameter.grad = torch.randn(parameter.shape, generator=draw)


def test_first_step_by_hand() -> None:
    """The first Adam step is lr × g/(|g| + eps) whatever the size of g; clipping only rescales g first."""
    optimiser, parameters = make(lr=0.1, adam_eps=1e-12, max_grad_norm=1e-3)
    before = {name: p.detach().clone() for name, p in parameters.items()}
    gradients(parameters, 1)
    signs = {name: p.grad.sign() for name, p in parameters.items() if p.grad is not None}
    want = math.sqrt(sum(float(p.grad.square().sum()) for p in parameters.values() if p.grad is not None))
    assert optimiser.step(0.5) == pytest.approx(want, rel=1e-6)
    for name, rate in (("a", 0.1), ("b", 0.5)):
        moved = parameters[name].detach() - before[name]
        assert torch.allclose(moved, -0.5 * rate * signs[name], atol=1e-6)


def test_gradients_are_clipped_to_the_norm() -> None:
    optimiser, parameters = make(lr=0.1, max_grad_norm=0.5)
    gradients(parameters, 1)
    grads = [p.grad for p in parameters.values()]
    optimiser.step(1.0)
    norm = math.sqrt(sum(float(g.square().sum()) for g in grads if g is not None))
    assert norm == pytest.approx(0.5, rel=1e-4)


def test_state_survives_a_round_trip_bit_for_bit() -> None:
    """P38."""
    straight, a = make(lr=0.1)
    for step in range(6):
        gradients(a, step)
        straight.step(1.0)
    halves, b = make(lr=0.1)
    for step in range(3):
        gradients(b, step)
        halves.step(1.0)
    saved = {name: tensor.clone() for name, tensor in halves.tensors().items()}
    resumed, c = make(lr=0.1)
    with torch.no_grad():
        c["a"].zero_()
    resumed.load(saved)
    for step in range(3, 6):
        gradients(c, step)
        resumed.step(1.0)
    for name in a:
        assert torch.equal(a[name], c[name])
    final, wanted = resumed.tensors(), straight.tensors()
    assert final.keys() == wanted.keys()
    assert all(torch.equal(final[name], wanted[name]) for name in wanted)


def test_a_gradient_that_is_not_finite_changes_nothing() -> None:
    optimiser, parameters = make(lr=0.1)
    gradients(parameters, 1)
    parameters["a"].grad[0, 0] = math.nan  # type: ignore[index]
    before = {name: p.detach().clone() for name, p in parameters.items()}
    with pytest.raises(UserError, match="gradient is nan"):
        optimiser.step(1.0)
    assert all(torch.equal(p, before[name]) for name, p in parameters.items())
