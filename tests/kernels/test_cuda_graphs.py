"""When work is recorded and what a replay takes and gives, with a recording that needs no GPU (for one: tests/gpu)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from harken.kernels.cuda_graphs import CapturedGraph, CudaGraphs
from harken.run import signals

TensorFunction = Callable[..., tuple[Tensor, ...]]


class Replays:
    """Like a graph: reads where the inputs lay and writes where the outputs lay."""

    def __init__(self, work: TensorFunction, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> None:
        self.work, self.inputs, self.outputs, self.times = work, inputs, outputs, 0

    def replay(self) -> None:
        self.times += 1
        for place, made in zip(self.outputs, self.work(*self.inputs), strict=True):
            place.copy_(made)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[Replays]:
    """Recordings, in the order they were made. All write into one place, as those of one pool may."""
    made: list[Replays] = []
    pool = torch.zeros(8)

    def record(self: CudaGraphs, work: TensorFunction, inputs: tuple[Tensor, ...]) -> object:
        own = tuple(given.clone() for given in inputs)
        outputs = tuple(pool[: len(out)] for out in work(*own))
        made.append(Replays(work, own, outputs))
        return CapturedGraph(made[-1], own, outputs)

    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 0))
    monkeypatch.setattr(CudaGraphs, "_capture", record)
    return made


def doubled(x: Tensor) -> tuple[Tensor]:
    return (2 * x,)


def squared(x: Tensor) -> tuple[Tensor]:
    return (x * x,)


def test_work_is_recorded_when_it_comes_again(recorded: list[Replays]) -> None:
    """Once as usual; then, of each kind and each shape, recorded once and replayed on what it is given."""
    graphs = CudaGraphs()
    kept = []
    for turn in range(4):
        for size in (2, 3):
            x = torch.arange(size).float() + 10 * turn
            kept += [(graphs("twice", doubled, x)[0], 2 * x), (graphs("square", squared, x)[0], x * x)]
    for found, expected in kept:  # also after other graphs have written where they lay
        assert torch.equal(found, expected)
    assert [(graph.work, len(graph.inputs[0]), graph.times) for graph in recorded] == [
        (doubled, 2, 3), (squared, 2, 3), (doubled, 3, 3), (squared, 3, 3)
    ]  # fmt: skip


def test_a_run_may_stop_before_a_replay(recorded: list[Replays], monkeypatch: pytest.MonkeyPatch) -> None:
    """The work itself looks whether it should, and a replay is not the work."""
    graphs, looks = CudaGraphs(), []
    monkeypatch.setattr(signals, "raise_if_stopped", lambda: looks.append(1))
    for _ in range(3):
        graphs("twice", doubled, torch.ones(2))
    assert len(looks) == 3


class Full:
    """A recording that finds no room some times, then does."""

    def __init__(self, times: int) -> None:
        self.times, self.happened = times, list[str]()

    def record(self, work: TensorFunction, inputs: tuple[Tensor, ...]) -> object:
        self.happened.append("record")
        if self.happened.count("record") <= self.times:
            raise torch.OutOfMemoryError("no room")
        own = tuple(given.clone() for given in inputs)
        outputs = work(*own)
        return CapturedGraph(Replays(work, own, outputs), own, outputs)


@pytest.mark.parametrize(
    ("times", "happened"),
    [(0, ["record"]), (1, ["record", "release", "record"]), (9, ["record", "release", "record"])],
)
def test_without_memory_a_step_is_recorded_after_a_release_or_runs_unrecorded(
    times: int, happened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    full = Full(times)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 0))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: full.happened.append("release"))
    monkeypatch.setattr(CudaGraphs, "_capture", lambda _, *given: full.record(*given))
    graphs = CudaGraphs()
    for turn in range(5):
        x = torch.arange(3).float() + turn
        assert torch.equal(graphs("twice", doubled, x)[0], 2 * x)
    assert full.happened == happened
