"""Retry a pass on out-of-memory with smaller micro-batches. The result is the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from harken.batches import Item
from harken.errors import UserError
from harken.models.adapted_model import AdaptedModel
from harken.run.tracking import say

T = TypeVar("T")
OOM_MESSAGES = (
    *("can't allocate memory", "not enough memory"),  # torch on a CPU, on Linux and on Windows
    *("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED"),
)


class MicroBatcher:
    """Maximum tokens in one forward, as the backbone packs or pads them. Halved on out-of-memory.

    The loss of an optimiser step does not depend on its split into micro-batches, so the budget changes memory and
    speed only. `tokens` is part of a run's saved state: a resumed run starts with the budget that fitted.
    """

    def __init__(self, tokens: int, label: str, backbone: AdaptedModel) -> None:
        self.tokens, self.label, self.backbone = tokens, label, backbone
        self._splits: list[Sequence[Item]] = []
        """The arguments of `split` in the current attempt."""

    def split(self, items: Sequence[Item]) -> list[list[int]]:
        """Split items into micro-batches (see `AdaptedModel.micro_batches`): lists of their indices."""
        self._splits.append(items)
        return self.backbone.micro_batches(items, self.tokens)

    def retry_on_oom(self, attempt: Callable[[], T], reset: Callable[[], None] = lambda: None) -> T:
        """Call `attempt()`; on out-of-memory call `reset()`, halve the budget and try again.

        Every attempt draws the same random numbers. Raises UserError if single items do not fit.
        """
        while True:
            self._splits.clear()
            try:
                with torch.random.fork_rng([torch.cuda.current_device()] if _on_cuda() else []):
                    return attempt()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Outside the handler: inside it, the error would keep every tensor of the attempt alive.
            reset()
            if _on_cuda():
                torch.cuda.empty_cache()
            self._halve()

    def _halve(self) -> None:
        largest = dict.fromkeys((False, True), 0)  # tokens in one forward, by whether it can be split
        for items in self._splits:
            for group in self.backbone.micro_batches(items, self.tokens):
                rows = [row for i in group for row in items[i]]
                can_split = len(group) > 1
                largest[can_split] = max(largest[can_split], self.backbone.forward_size(rows))
        if not largest[True]:
            raise UserError(
                f"out of memory: a forward of {largest[False]} tokens does not fit and cannot be split",
                where=f"{self.label}, training.micro_batch_tokens",
                fix="set training.gradient_checkpointing: true, or shorten data.max_length",
            )
        # Halve the largest micro-batch, not the budget: halving a budget that was never filled has no effect.
        previous, self.tokens = self.tokens, largest[True] // 2
        say(
            f"{self.label}: out of memory; the step starts again with micro_batch_tokens {self.tokens} "
            f"instead of {previous}, and the same effective batch"
        )


def _on_cuda() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether `error` reports out-of-memory, on a GPU or on the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in OOM_MESSAGES)
