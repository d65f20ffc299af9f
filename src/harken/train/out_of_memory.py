"""What to do when memory runs out in a pass: smaller micro-batches, the same result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from harken.batches import micro_batches
from harken.errors import UserError
from harken.run.tracking import say

T = TypeVar("T")
PHRASES = (
    *("can't allocate memory", "not enough memory"),  # torch on a CPU, on Linux and on Windows
    *("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED"),
)


class TokenBudget:
    """How many tokens, padding included, one forward may hold. It shrinks when they turn out to be too many.

    The loss of an optimiser step does not depend on how it is split, so a smaller budget changes memory and
    speed alone. `tokens` belongs to the state of a run: resumed, it goes on with what fitted.
    """

    def __init__(self, tokens: int, label: str) -> None:
        self.tokens, self.label = tokens, label
        self._rows, self._longest = 0, 0

    def split(self, lengths: Sequence[int], rows: int = 1) -> list[list[int]]:
        """Micro-batches (see `batches.micro_batches`) of items that are each `rows` rows of so many tokens."""
        groups = micro_batches(lengths, max(self.tokens // rows, 1))
        padded = [(len(group), rows * max(lengths[i] for i in group)) for group in groups]
        self._rows, self._longest = max(padded, key=lambda g: (g[0] > 1, g[0] * g[1]), default=(0, 0))
        return groups

    def fit(self, attempt: Callable[[], T], forget: Callable[[], None] = lambda: None) -> T:
        """`attempt()`; where memory runs out in it, `forget()` what it did, halve the budget, and do it again.

        Every attempt draws the same random numbers. Raises UserError when single rows do not fit.
        """
        while True:
            try:
                with torch.random.fork_rng([torch.cuda.current_device()] if _on_cuda() else []):
                    return attempt()
            except (RuntimeError, MemoryError) as error:
                if not ran_out_of_memory(error):
                    raise
            # Outside the handler: until it is left, the error keeps every tensor of the attempt alive.
            forget()
            if _on_cuda():
                torch.cuda.empty_cache()
            self._halve()

    def _halve(self) -> None:
        if self._rows <= 1:
            raise UserError(
                f"out of memory: {self._longest} tokens in one forward are too many, and they cannot be split",
                where=f"{self.label}, training.micro_batch_tokens",
                mend="set training.gradient_checkpointing: true, or shorten data.max_length",
            )
        before, self.tokens = self.tokens, self._rows * self._longest // 2
        say(
            f"{self.label}: out of memory; the step starts again with micro_batch_tokens {self.tokens} "
            f"instead of {before}, and the same effective batch"
        )


def _on_cuda() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether this is memory running out, on a GPU or on the CPU, and no other error."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in PHRASES)
