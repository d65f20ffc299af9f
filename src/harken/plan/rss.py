"""What this process holds in memory: Python, its libraries, and what was read so far."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

STATM = Path("/proc/self/statm")


def resident_bytes() -> float:
    """Bytes of this process in memory now; where only the peak is known, the peak."""
    if STATM.exists():
        return float(int(STATM.read_text().split()[1]) * resource.getpagesize())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak if sys.platform == "darwin" else 1024 * peak)
