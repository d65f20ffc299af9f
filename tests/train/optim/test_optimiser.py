"""AdamW, its schedule, clipping and its saved state, against torch used plainly and formulas by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from harken.config.training import SupervisedTraining
from harken.errors import NonFinite, UserError
from harken.train.optim import adamw_offload
from harken.train.optim import optimiser as optimiser_module
from harken.train.optim.adamw_offload import moments_to_device, moments_to_host
from harken.train.optim.optimiser import Optimiser, lr_multiplier


def settings(**keys: object) -> SupervisedTraining:
    return SupervisedTraining.model_validate({"type": "sft", **keys})


def test_schedules() -> None:
    """P35: linear to 0; the warm-up climbs to exactly 1."""
    linear = settings(warmup_steps=4)
    assert [lr_multiplier(s, 8, linear) for s in range(8)] == [0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25]
    constant = settings(lr_schedule="constant")
    assert {lr_multiplier(s, 8, constant) for s in range(8)} == {1.0}
    cosine = settings(lr_schedule="cosine")
    assert lr_multiplier(2, 8, cosine) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)


KINDS = ("adamw", "adamw_cpu_offload", "adamw_8bit")
SHAPES = {"a": (3, 2), "b": (90, 70), "scalar": ()}
"""Small, above the 4,096 elements from which eight bits are used and no multiple of 256, and no dimension at all."""


def make(
    shapes: Mapping[str, tuple[int, ...]] | None = None, **keys: object
) -> tuple[Optimiser, dict[str, nn.Parameter]]:
    torch.manual_seed(0)
    shapes = shapes or {"a": (3, 2), "b": (3, 2)}
    parameters = {name: nn.Parameter(torch.randn(shape)) for name, shape in shapes.items()}
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
    assert optimiser.clip_and_step(0.5) == pytest.approx(want, rel=1e-6)
    for name, rate in (("a", 0.1), ("b", 0.5)):
        moved = parameters[name].detach() - before[name]
        assert torch.allclose(moved, -0.5 * rate * signs[name], atol=1e-6)


def test_gradients_are_clipped_to_the_norm() -> None:
    optimiser, parameters = make(lr=0.1, max_grad_norm=0.5)
    gradients(parameters, 1)
    grads = [p.grad for p in parameters.values()]
    optimiser.clip_and_step(1.0)
    norm = math.sqrt(sum(float(g.square().sum()) for g in grads if g is not None))
    assert norm == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_state_survives_a_round_trip_bit_for_bit(kind: str, tmp_path: Path) -> None:
    """P38, through the very file a checkpoint is."""
    straight, a = make(SHAPES, lr=0.1, optimizer=kind)
    for step in range(6):
        gradients(a, step)
        straight.clip_and_step(1.0)
    halves, b = make(SHAPES, lr=0.1, optimizer=kind)
    for step in range(3):
        gradients(b, step)
        halves.clip_and_step(1.0)
    save_file(halves.tensors(), tmp_path / "state.safetensors")
    resumed, c = make(SHAPES, lr=0.1, optimizer=kind)
    with torch.no_grad():
        c["a"].zero_()
    resumed.load(load_file(tmp_path / "state.safetensors"))
    for step in range(3, 6):
        gradients(c, step)
        resumed.clip_and_step(1.0)
    for name in a:
        assert torch.equal(a[name], c[name])
    final, wanted = resumed.tensors(), straight.tensors()
    assert final.keys() == wanted.keys()
    assert all(torch.equal(final[name], wanted[name]) for name in wanted)
    assert wanted["adam/exp_avg_sq/b"].dtype == (torch.uint8 if kind == "adamw_8bit" else torch.float32)


@pytest.mark.parametrize("chunk", [256, 1 << 22])
def test_offloaded_moments_change_no_bit(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    """S3-13: torch's own AdamW is the oracle; in how many chunks a parameter is stepped changes nothing."""
    monkeypatch.setattr(adamw_offload, "CHUNK_ELEMENTS", chunk)
    offloaded, a = make(SHAPES, lr=0.1, optimizer="adamw_cpu_offload", weight_decay=0.1)
    plain, b = make(SHAPES, lr=0.1, weight_decay=0.1)
    assert type(plain._adam) is torch.optim.AdamW
    for step in range(5):
        for optimiser, parameters in ((offloaded, a), (plain, b)):
            gradients(parameters, step)
            if step == 2:
                parameters["a"].grad = None  # a parameter that had no part in a step rests
            optimiser.clip_and_step(1.0 - 0.1 * step)
    got, want = offloaded.tensors(), plain.tensors()
    assert got.keys() == want.keys()
    assert all(torch.equal(got[name], want[name]) for name in want)


def test_chunks_are_copied_back_where_they_were_taken() -> None:
    """On a CPU moments are changed in place: the way back from a GPU, by hand."""
    state = {name: torch.zeros(2, 3) for name in ("exp_avg", "exp_avg_sq")}
    moments_to_host(state, slice(2, 4), [torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])])
    assert state["exp_avg"].tolist() == [[0, 0, 1], [2, 0, 0]]
    assert state["exp_avg_sq"].tolist() == [[0, 0, 3], [4, 0, 0]]
    first, second = moments_to_device(state, slice(3, 5), torch.device("cpu"))
    assert (first.tolist(), second.tolist()) == ([2, 0], [4, 0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_offloaded_moments_leave_the_gpu() -> None:
    """S3-13: between steps, and after a resume, they are on the host, pinned; the numbers are AdamW's."""
    states = []
    for kind in ("adamw_cpu_offload", "adamw"):
        parameter = nn.Parameter(torch.linspace(-1, 1, 9000, device="cuda"))
        optimiser = Optimiser({"a": parameter}, settings(lr=0.1, optimizer=kind))
        for step in range(4):
            parameter.grad = torch.sin(parameter.detach() * (step + 1))
            optimiser.clip_and_step(1.0)
            optimiser.load(optimiser.tensors())
        states.append(optimiser.tensors())
    for name in ("adam/exp_avg/a", "adam/exp_avg_sq/a"):
        assert states[0][name].device.type == "cpu" and states[0][name].is_pinned()
        assert states[1][name].device.type == "cuda"
    assert all(torch.equal(states[0][name].cpu(), states[1][name].cpu()) for name in states[0])


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_of_the_moments(kind: str) -> None:
    """docs/memory.md: 8 a number, or 2 and 8 for every 256; of a small one always 8."""
    optimiser, parameters = make({"small": (3, 2), "b": (90, 70)}, lr=0.1, optimizer=kind)
    gradients(parameters, 0)
    optimiser.clip_and_step(1.0)
    state = {n: t for n, t in optimiser.tensors().items() if n.startswith("adam/exp_avg")}
    blocks = math.ceil(90 * 70 / 256)
    want = 2 * 90 * 70 + 8 * blocks if kind == "adamw_8bit" else 8 * 90 * 70
    assert sum(t.nbytes for t in state.values()) == want + 8 * 6


@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_that_is_not_finite_changes_nothing(kind: str) -> None:
    optimiser, parameters = make(lr=0.1, optimizer=kind)
    gradients(parameters, 1)
    parameters["a"].grad[0, 0] = math.nan  # type: ignore[index]
    before = {name: p.detach().clone() for name, p in parameters.items()}
    with pytest.raises(UserError, match="a: the gradient is nan"):
        optimiser.clip_and_step(1.0)
    assert all(torch.equal(p, before[name]) for name, p in parameters.items())


@pytest.mark.parametrize(
    ("bad", "value", "message"),
    [
        ("b", math.inf, "b: the gradient is inf"),
        ("b", math.nan, "b: the gradient is nan"),
        ("b", 1e30, "the sum over all parameters: the gradient is inf"),
    ],
)
def test_the_parameter_whose_gradient_is_not_finite_is_named(bad: str, value: float, message: str) -> None:
    """Also where every gradient is finite and their norm is not."""
    optimiser, parameters = make(lr=0.1)
    gradients(parameters, 1)
    parameters[bad].grad[1, 0] = value  # type: ignore[index]
    before = {name: p.detach().clone() for name, p in parameters.items()}
    with pytest.raises(NonFinite, match=message):
        optimiser.clip_and_step(1.0)
    assert all(torch.equal(p, before[name]) for name, p in parameters.items())
    assert not any(name.startswith("adam/") for name in optimiser.tensors())


@pytest.mark.parametrize("together", [1, 7, 1 << 24])
def test_how_parameters_are_put_together_changes_no_bit(
    monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    """Two learning rates, parameters of both in turn: each is stepped as if it were alone, at its own rate."""
    monkeypatch.setattr(optimiser_module, "FOREACH_ELEMENTS", together)
    torch.manual_seed(0)
    parameters = {f"p{i}": nn.Parameter(torch.randn(1 + i % 3, 2)) for i in range(7)}
    rates = dict.fromkeys(list(parameters)[::2], 0.5)
    alone = {name: nn.Parameter(p.detach().clone()) for name, p in parameters.items()}
    ours = Optimiser(parameters, settings(lr=0.1, max_grad_norm=1e9), rates)
    theirs = {
        name: torch.optim.AdamW([p], lr=rates.get(name, 0.1), weight_decay=0.0) for name, p in alone.items()
    }
    for step in range(3):
        for both in (parameters, alone):
            gradients(both, step)
        ours.clip_and_step(1.0 - 0.2 * step)
        for name, adam in theirs.items():
            adam.param_groups[0]["lr"] = rates.get(name, 0.1) * (1.0 - 0.2 * step)
            adam.step()
    assert all(torch.equal(parameters[name], alone[name]) for name in parameters)
    sizes = [sum(p.numel() for p in group["params"]) for group in ours._adam.param_groups]
    assert max(sizes) <= max(together, 6)
    assert len(sizes) == {1: 7, 7: 5, 1 << 24: 2}[together]
