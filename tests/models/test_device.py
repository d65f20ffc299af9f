"""Which device a name means, with GPUs that are only said to be there."""

from __future__ import annotations

import pytest
import torch

from harken.errors import UserError
from harken.models.device import choose_device


@pytest.fixture
def current(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Two GPUs; those that were made the current one."""
    made: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", made.append)
    return made


@pytest.mark.parametrize(
    ("name", "chosen", "made"),
    [("auto", "cuda", []), ("cuda", "cuda", []), ("cuda:0", "cuda:0", [0]), ("cuda:1", "cuda:1", [1])],
)
def test_the_named_gpu_becomes_the_current_one(
    name: str, chosen: str, made: list[int], current: list[int]
) -> None:
    """Recordings, streams and peaks of memory are the current one's; without a number it is that already."""
    assert choose_device(name) == torch.device(chosen)
    assert current == made


def test_no_gpu_is_made_current_for_a_cpu(current: list[int]) -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert current == []


def test_without_a_gpu_auto_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(UserError, match=r"device: cuda: no CUDA device is available\. Fix: use auto or cpu"):
        choose_device("cuda")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tpu9", r"device: unknown device 'tpu9'\. Fix: use auto, cpu, cuda or cuda:N"),
        ("cuda:2", r"device: cuda:2: there are 2 CUDA devices\. Fix: name one up to cuda:1"),
    ],
)
def test_a_device_that_is_not_there_is_an_error(name: str, message: str, current: list[int]) -> None:
    with pytest.raises(UserError, match=message):
        choose_device(name)
    assert current == []
