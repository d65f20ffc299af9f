"""What a step says of a GPU's memory, read from a counter that stands in for torch's."""

from __future__ import annotations

import pytest
import torch

from harken.train import gpu_memory


def test_without_a_gpu_in_use_nothing_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    assert gpu_memory.peak_memory() == {}


def test_peaks_of_all_gpus_since_the_last_call(monkeypatch: pytest.MonkeyPatch) -> None:
    allocated, reserved = {0: 5, 1: 7}, {0: 10, 1: 20}
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", allocated.__getitem__)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", reserved.__getitem__)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: allocated.update({device: 1}))
    assert gpu_memory.peak_memory() == {"memory/gpu_allocated": 12.0, "memory/gpu_reserved": 30.0}
    assert gpu_memory.peak_memory()["memory/gpu_allocated"] == 2.0
