"""What to do when memory runs out in a pass: smaller micro-batches, the same result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from harken.errors import UserError
from harken.models.backbone import Backbone
from harken.run.tracking import say

T = TypeVar("T")
Item = Sequence[Sequence[int]]
"""Rows of tokens that stay in one forward: an answer, or both sides of a pair."""
PHRASES = (
    *("can't allocate memory", "not enough memory"),  # torch on a CPU, on Linux and on Windows
    *("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED"),
)


class TokenBudget:
    """How many tokens one forward may hold, as the backbone lays them out. It shrinks when they are too many.

    The loss of an optimiser step does not depend on how it is split, so a smaller budget changes memory and
    speed alone. `tokens` belongs to the state of a run: resumed, it goes on with what fitted.
    """

    def __init__(self, tokens: int, label: str, backbone: Backbone) -> None:
        self.tokens, self.label, self.backbone = tokens, label, backbone
        self._splits: list[Sequence[Item]] = []

    def split(self, items: Sequence[Item]) -> list[list[int]]:
        """Micro-batches (see `Backbone.micro_batches`) of items, each of them some rows of tokens."""
        self._splits.append(items)
        return self.backbone.micro_batches(items, self.tokens)

    def retry_on_oom(self, attempt: Callable[[], T], reset: Callable[[], None] = lambda: None) -> T:
        """`attempt()`; where memory runs out in it, `forget()` what it did, halve the budget, and do it again.

        Every attempt draws the same random numbers. Raises UserError when single rows do not fit.
        """
        while True:
            self._splits.clear()
            try:
                with torch.random.fork_rng([torch.cuda.current_device()] if _on_cuda() else []):
                    return attempt()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Outside the handler: until it is left, the error keeps every tensor of the attempt alive.
            reset()
            if _on_cuda():
                torch.cuda.empty_cache()
            self._halve()

    def _halve(self) -> None:
        most = dict.fromkeys((False, True), 0)
        for items in self._splits:
            for group in self.backbone.micro_batches(items, self.tokens):
                rows = [row for i in group for row in items[i]]
                several = len(group) > 1
                most[several] = max(most[several], self.backbone.pack(rows).tokens.numel())
        if not most[True]:
            raise UserError(
                f"out of memory: {most[False]} tokens in one forward are too many, and they cannot be split",
                where=f"{self.label}, training.micro_batch_tokens",
                fix="set training.gradient_checkpointing: true, or shorten data.max_length",
            )
        # A budget that was never filled would be halved to no effect.
        before, self.tokens = self.tokens, most[True] // 2
        say(
            f"{self.label}: out of memory; the step starts again with micro_batch_tokens {self.tokens} "
            f"instead of {before}, and the same effective batch"
        )


def _on_cuda() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is memory running out, on a GPU or on the CPU, and no other error."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in PHRASES)
