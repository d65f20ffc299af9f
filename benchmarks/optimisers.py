"""Measure milliseconds per step and final loss of the three AdamWs: least squares, 525,000 weights, one thread.

python benchmarks/optimisers.py
"""

from __future__ import annotations

import time

import torch

from harken.config.training import SupervisedTraining
from harken.train.optim.optimiser import OPTIMISERS, Optimiser

WIDTH, STEPS = 512, 300


def fit(kind: str) -> tuple[float, float]:
    """Return the last loss and the milliseconds of a step."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(WIDTH, WIDTH), torch.nn.GELU(), torch.nn.Linear(WIDTH, WIDTH))
    training = SupervisedTraining.model_validate({"type": "sft", "lr": 1e-3, "optimizer": kind})
    optimiser = Optimiser(dict(net.named_parameters()), training)
    draw = torch.Generator().manual_seed(1)
    target = torch.randn(WIDTH, WIDTH, generator=draw) / WIDTH**0.5
    seconds, loss = 0.0, torch.zeros(())
    for _ in range(STEPS):
        x = torch.randn(64, WIDTH, generator=draw)
        loss = (net(x) - x @ target).square().mean()
        loss.backward()
        began = time.perf_counter()
        optimiser.clip_and_step(1.0)
        seconds += time.perf_counter() - began
    return float(loss.detach()), 1000 * seconds / STEPS


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in OPTIMISERS:
        end, milliseconds = fit(name)
        print(f"{name:<18} loss {end:.5f}   {milliseconds:6.1f} ms a step")
