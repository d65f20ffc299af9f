"""Measure the peak GPU memory of a step, as torch's allocator counts it."""

from __future__ import annotations

import torch


def peak_memory() -> dict[str, float]:
    """Return the peak bytes since the last call, as metrics; {} if no GPU is in use.

    `memory/gpu_allocated` counts tensors; `memory/gpu_reserved` also the gaps between them, which is how much must be
    free.
    """
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return {}
    devices = range(torch.cuda.device_count())
    peaks = {
        "memory/gpu_allocated": float(sum(map(torch.cuda.max_memory_allocated, devices))),
        "memory/gpu_reserved": float(sum(map(torch.cuda.max_memory_reserved, devices))),
    }
    for device in devices:
        torch.cuda.reset_peak_memory_stats(device)
    return peaks
