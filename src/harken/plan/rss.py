"""Measure the resident memory of this process."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

STATM = Path("/proc/self/statm")


def resident_bytes() -> float:
    """Return the resident bytes of this process, or the peak where the current value is not available."""
    if STATM.exists():
        return float(int(STATM.read_text().split()[1]) * resource.getpagesize())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak if sys.platform == "darwin" else 1024 * peak)
