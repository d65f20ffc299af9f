"""The most memory a step took on GPUs, as their allocator counts it."""

from __future__ import annotations

import torch


def peaks() -> dict[str, float]:
    """Bytes since the last call, as metrics; {} where no GPU is in use.

    `memory/gpu_allocated` held tensors; `memory/gpu_reserved` was taken from the GPU for them, the gaps between them
    included: that much has to be free.
    """
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return {}
    devices = range(torch.cuda.device_count())
    found = {
        "memory/gpu_allocated": float(sum(map(torch.cuda.max_memory_allocated, devices))),
        "memory/gpu_reserved": float(sum(map(torch.cuda.max_memory_reserved, devices))),
    }
    for device in devices:
        torch.cuda.reset_peak_memory_stats(device)
    return found
