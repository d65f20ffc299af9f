"""Which device to run on, and what a CPU run asks of the memory allocator."""

from __future__ import annotations

import ctypes
import sys

import torch

from harken.errors import UserError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def choose_device(name: str) -> torch.device:
    """`auto` (CUDA where there is one, else the CPU), `cpu`, `cuda`, `cuda:1` … Raises UserError for any other."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(
            f"unknown device {name!r}", where="device", mend="use auto, cpu, cuda or cuda:N"
        ) from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("no CUDA device is available", where=f"device: {name}", mend="use auto or cpu")
    if device.type == "cpu":
        keep_freed_memory()
    return device


def keep_freed_memory() -> bool:
    """Let glibc reuse the memory of freed tensors instead of handing it back and faulting in new pages.

    By default every tensor above 32 MB is a fresh mapping, zeroed page by page at each use. Does nothing,
    and returns False, where there is no glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, 1 << 30) and mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1))
