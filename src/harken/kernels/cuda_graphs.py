"""TensorFunction on a GPU that comes again with the same shapes, recorded once and replayed.

A step of generation is hundreds of operations of a few microseconds. Launching them one by one takes the processor ten
times as long as the GPU needs to run them; a recorded graph is launched as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from harken.run import signals

TensorFunction = Callable[..., tuple[Tensor, ...]]


@runtime_checkable
class ReplayableGraph(Protocol):
    """What is asked of a recorded graph."""

    def replay(self) -> object:
        """Do the work again, on what lies where its inputs lay."""
        ...


@dataclass(frozen=True)
class CapturedGraph:
    """A graph, and where it reads and writes."""

    graph: ReplayableGraph
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


class CudaGraphs:
    """One graph for each kind of work and shapes of its inputs, in one pool of memory.

    What work reads beside its inputs (weights, a cache) has to stay where it is in memory while this object lives. What
    it writes there, it writes again at every replay.
    """

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self._seen: set[Hashable] = set()
        self._captured: dict[Hashable, CapturedGraph | None] = {}
        """None: there was no room to record it."""

    def __call__(self, kind: Hashable, work: TensorFunction, *inputs: Tensor) -> tuple[Tensor, ...]:
        """`work(*inputs)`. `kind` names all that it depends on beside its inputs.

        The first time shapes come they are worked on as usual, which also readies what must not be readied in a
        recording. A place where a run may stop.
        """
        signals.raise_if_stopped()
        key = (kind, *(tuple(given.shape) for given in inputs))
        if key not in self._seen:
            self._seen.add(key)
            return work(*inputs)
        if key not in self._captured:
            self._captured[key] = self._capture_if_it_fits(work, inputs)
        found = self._captured[key]
        if found is None:
            return work(*inputs)
        for place, given in zip(found.inputs, inputs, strict=True):
            place.copy_(given)
        found.graph.replay()
        # Another graph of this pool may write where this one's outputs lie.
        return tuple(made.clone() for made in found.outputs)

    def _capture_if_it_fits(self, work: TensorFunction, inputs: tuple[Tensor, ...]) -> CapturedGraph | None:
        """A recording allocates in its pool, and what torch has freed elsewhere and kept is no room to it."""
        with suppress(torch.OutOfMemoryError):
            return self._capture(work, inputs)
        torch.cuda.empty_cache()
        with suppress(torch.OutOfMemoryError):
            return self._capture(work, inputs)
        return None

    def _capture(self, work: TensorFunction, inputs: tuple[Tensor, ...]) -> CapturedGraph:
        own = tuple(given.clone() for given in inputs)
        graph, stream = torch.cuda.CUDAGraph(), _capture_stream(torch.cuda.current_device())
        stream.wait_stream(torch.cuda.current_stream())
        # Not `torch.cuda.graph`, which gives all unused memory back to the driver before each recording.
        with torch.cuda.stream(stream):
            graph.capture_begin(pool=self._pool)
            try:
                outputs = work(*own)
            except BaseException:
                with suppress(RuntimeError):  # what went wrong is told by the first error
                    graph.capture_end()
                raise
            graph.capture_end()
        torch.cuda.current_stream().wait_stream(stream)
        return CapturedGraph(graph, own, outputs)


@cache
def _capture_stream(device: int) -> torch.cuda.Stream:
    """One for all recordings: the library that multiplies keeps 32 MB for every stream it has seen, for good."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
