"""Record facts of the machine, time calls, and measure seconds and memory of child processes."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch


def facts() -> dict[str, object]:
    """Return cores, memory, instruction sets, versions, and the rates of plain matmuls and copies.

    Needs 1 GB for a moment: call it after the children that are measured, for on Linux a child's peak starts at
    its parent's.
    """
    cpuinfo, meminfo = (_lines(f"/proc/{name}info") for name in ("cpu", "mem"))
    flags = f" {_field(cpuinfo, 'flags')} "
    found: dict[str, object] = {
        "cpu": _field(cpuinfo, "model name") or platform.machine(),
        "threads": torch.get_num_threads(),
        "memory": _field(meminfo, "MemTotal"),
        "instructions": " ".join(
            f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f" {f} " in flags
        ),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "bf16 GFLOP/s": round(matmul_rate(torch.bfloat16)),
        "fp32 GFLOP/s": round(matmul_rate(torch.float32)),
        "copy GB/s": round(copy_rate(), 1),
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def busy(for_seconds: float = 1.0) -> float:
    """Return the share of all cores in use now, by any process; 0 without /proc/stat."""
    if not (before := _ticks()):
        return 0.0
    time.sleep(for_seconds)
    spent = [b - a for a, b in zip(before, _ticks(), strict=True)]
    return round(1.0 - (spent[3] + spent[4]) / sum(spent), 3)


def seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """Return median wall seconds of `work()`, after one warm-up call."""
    work()
    return median(once(work) for _ in range(repeats))


def once(work: Callable[[], object]) -> float:
    """Return wall seconds of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def matmul_rate(dtype: torch.dtype, size: int = 2048) -> float:
    """Return GFLOP/s of a large square product x W', as in a linear layer.

    (The other way round, x W, a processor without 16-bit multiplications took minutes for one.)
    """
    a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
    return 2 * size**3 / seconds(lambda: a @ b.T) / 1e9


def copy_rate(megabytes: int = 512) -> float:
    """Return GB/s read and written by a large copy."""
    a = torch.ones(megabytes << 20, dtype=torch.uint8)
    b = torch.empty_like(a)
    return 2 * len(a) / seconds(lambda: b.copy_(a)) / 1e9


@dataclass(frozen=True)
class Finished:
    """Hold a child process that ended without error: stdout, stderr, seconds, peak resident memory."""

    output: str
    errors: str
    seconds: float
    peak_bytes: int

    def lines(self) -> list[dict[str, float]]:
        """Return the JSON objects it printed, one a line; other output is skipped."""
        return [json.loads(line) for line in self.output.splitlines() if line.startswith('{"')]


def run(command: list[str], **environment: str) -> Finished:
    """Run a child to its end. Raises RuntimeError with its last output when it fails."""
    began = time.perf_counter()
    # To a file: bars and warnings on stderr would end up in the middle of the lines on stdout, or fill a pipe.
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(
            command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=said, text=True
        )
        assert child.stdout is not None
        output = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        errors = said.read().decode(errors="replace")
        if child.returncode:
            raise RuntimeError(f"{' '.join(command[:3])} … ended with {child.returncode}:\n{errors[-3000:]}")
    return Finished(output, errors, time.perf_counter() - began, usage.ru_maxrss * 1024)


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def _ticks() -> list[int]:
    """Return ticks of all cores together: user, nice, system, idle, waiting for disks, … (proc(5))."""
    return [int(n) for line in _lines("/proc/stat")[:1] for n in line.split()[1:]]


def _field(lines: list[str], name: str) -> str:
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
