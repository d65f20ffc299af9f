"""Freed tensors are used again: counted as page faults, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from harken.kernels.allocator import grow_gpu_segments, keep_freed_memory

WORK = """
import resource, sys, torch
from harken.kernels.allocator import keep_freed_memory
torch.set_num_threads(1)
done = sys.argv[1] == "keep" and keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        a = torch.ones(10 << 20); b = a + 1; del a, b
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
# Now and then the heap grows by one more tensor, once; what costs pages costs them every time.
print(min(faults() for _ in range(3)), done)
"""


@pytest.mark.skipif(not keep_freed_memory(), reason="the C library is not glibc")
def test_freed_tensors_cost_no_page_faults() -> None:
    """Twenty tensors of 40 MB: without it each of their pages is cleared again."""
    found = {}
    for choice in ("keep", "leave"):
        run = subprocess.run([sys.executable, "-c", WORK, choice], capture_output=True, text=True, check=True)
        count, done = run.stdout.split()
        found[choice] = int(count)
        assert done == str(choice == "keep")
    assert found["keep"] < 1000
    assert found["leave"] > 5000


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="segments grow on Linux alone")
@pytest.mark.parametrize(
    ("version", "name"), [("2.9.1+cu128", "PYTORCH_CUDA_ALLOC_CONF"), ("2.13.0+cpu", "PYTORCH_ALLOC_CONF")]
)
def test_gpu_segments_are_expandable_unless_the_user_sets_otherwise(
    monkeypatch: pytest.MonkeyPatch, version: str, name: str
) -> None:
    """By the name that this torch reads without a warning."""
    names = {"PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"}
    monkeypatch.setattr(torch, "__version__", version)
    for given in names:
        monkeypatch.setenv(given, "")  # so that it is put back, whatever is done here
        monkeypatch.delenv(given)
    grow_gpu_segments()
    assert {key: os.environ[key] for key in names if key in os.environ} == {name: "expandable_segments:True"}
    for message in names:
        for given in names:
            os.environ.pop(given, None)
        os.environ[message] = "max_split_size_mb:64"
        grow_gpu_segments()
        assert {key: os.environ[key] for key in names if key in os.environ} == {
            message: "max_split_size_mb:64"
        }
