"""Choose the device to run on."""

from __future__ import annotations

import torch

from harken.errors import UserError
from harken.kernels.allocator import grow_gpu_segments
from harken.run.hardware import machine_memory


def choose_device(name: str) -> torch.device:
    """Choose a torch device: `auto` (CUDA if available, else the CPU), `cpu`, `cuda`, `cuda:1` …

    Raises UserError for any other name.
    """
    grow_gpu_segments()
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(
            f"unknown device {name!r}", where="device", fix="use auto, cpu, cuda or cuda:N"
        ) from None
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UserError("no CUDA device is available", where=f"device: {name}", fix="use auto or cpu")
        if device.index is not None:
            _set_current(device.index, name)
    return device


def device_kind(device: torch.device) -> str:
    """Return the device that rounding depends on: `cpu`, or the model of the GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def device_memory(device: torch.device) -> int | None:
    """Return the bytes of memory of a device, used or free: the GPU's, or the machine's; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory if torch.cuda.is_available() else None
    return machine_memory()


def _set_current(index: int, name: str) -> None:
    """Make a GPU the current device: streams, graph captures and memory statistics use the current GPU."""
    count = torch.cuda.device_count()
    if index >= count:
        raise UserError(
            f"there are {count} CUDA devices", where=f"device: {name}", fix=f"name one up to cuda:{count - 1}"
        )
    torch.cuda.set_device(index)
