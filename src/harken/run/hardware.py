"""Describe the machine that a run is on: processor, cores and memory."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path


@cache
def describe_hardware() -> str:
    """Return the processor's name, the cores that this process may use, and the memory of the machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parts = [_processor(), f"{cores} {'core' if cores == 1 else 'cores'}"]
    if (memory := machine_memory()) is not None:
        parts.append(f"{memory / 2**30:.0f} GiB memory")
    return ", ".join(parts)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def machine_memory() -> int | None:
    """Return the bytes of memory; None if the system does not report it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
