"""Measure the seconds of each part of an update."""

from __future__ import annotations

import time

import torch


class Stopwatch:
    """Measure laps. Synchronise with the GPU, so queued work counts in the lap that queued it."""

    def __init__(self, device: torch.device) -> None:
        self.laps: dict[str, float] = {}
        self._device = device
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """End the current lap under `name`."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        self.laps[name] = now - self._last
        self._last = now
