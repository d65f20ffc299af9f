"""Capture functions that run repeatedly with the same shapes as CUDA graphs, and replay them.

A decode step is hundreds of kernels of a few microseconds. Launching them one by one takes the CPU ten times as long
as the GPU needs to run them; a graph is launched as a whole.
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
    """Interface of `torch.cuda.CUDAGraph` that is used after capture."""

    def replay(self) -> object:
        """Run the captured kernels on the current contents of the input tensors."""
        ...


@dataclass(frozen=True)
class CapturedGraph:
    """A graph with its static input and output tensors."""

    graph: ReplayableGraph
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


class CudaGraphs:
    """One CUDA graph per function and input shapes, in one memory pool.

    Other tensors that a function reads or writes (weights, a KV cache) must keep their addresses while this object
    lives; every replay writes to them again.
    """

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self._seen: set[Hashable] = set()
        self._captured: dict[Hashable, CapturedGraph | None] = {}
        """None where capturing ran out of memory."""

    def __call__(self, kind: Hashable, function: TensorFunction, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return `function(*inputs)`. `kind` identifies everything it depends on besides the input shapes.

        The first call with new shapes runs eagerly, which does the lazy initialisation that a capture must not contain.
        The second captures; later ones replay. This is a safe point for signals.
        """
        signals.raise_if_stopped()
        key = (kind, *(tuple(tensor.shape) for tensor in inputs))
        if key not in self._seen:
            self._seen.add(key)
            return function(*inputs)
        if key not in self._captured:
            self._captured[key] = self._capture_if_it_fits(function, inputs)
        captured = self._captured[key]
        if captured is None:
            return function(*inputs)
        for static, tensor in zip(captured.inputs, inputs, strict=True):
            static.copy_(tensor)
        captured.graph.replay()
        # Graphs of one pool may share memory for their outputs.
        return tuple(output.clone() for output in captured.outputs)

    def _capture_if_it_fits(
        self, function: TensorFunction, inputs: tuple[Tensor, ...]
    ) -> CapturedGraph | None:
        """Capture, after freeing torch's cached blocks if needed: a capture cannot reuse blocks from other pools."""
        with suppress(torch.OutOfMemoryError):
            return self._capture(function, inputs)
        torch.cuda.empty_cache()
        with suppress(torch.OutOfMemoryError):
            return self._capture(function, inputs)
        return None

    def _capture(self, function: TensorFunction, inputs: tuple[Tensor, ...]) -> CapturedGraph:
        static = tuple(tensor.clone() for tensor in inputs)
        graph, stream = torch.cuda.CUDAGraph(), _capture_stream(torch.cuda.current_device())
        stream.wait_stream(torch.cuda.current_stream())
        # Not `torch.cuda.graph`, which returns all cached memory to the driver before each capture.
        with torch.cuda.stream(stream):
            graph.capture_begin(pool=self._pool)
            try:
                outputs = function(*static)
            except BaseException:
                with suppress(RuntimeError):  # the first error is the one to report
                    graph.capture_end()
                raise
            graph.capture_end()
        torch.cuda.current_stream().wait_stream(stream)
        return CapturedGraph(graph, static, outputs)


@cache
def _capture_stream(device: int) -> torch.cuda.Stream:
    """Return the stream of all captures: cuBLAS keeps a 32 MB workspace for every stream it has seen."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
