"""Measure CPU seconds of one training forward and backward of the base, by attention kernel and adapter precision.

    python benchmarks/training_forward.py [rows] [tokens]

CPU time on one thread, so that other work on the machine does not count. The embedded model in bfloat16, LoRA 16.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch

from harken.batches import collate
from harken.config import LoraSettings
from harken.models.backbone import Backbone
from harken.models.resolve import resolve

ROWS, TOKENS = (int(a) for a in (sys.argv[1:] + ["16", "90"][len(sys.argv) - 1 :]))


def cpu_seconds(work: Callable[[], None], repeats: int = 3) -> float:
    work()
    began = time.process_time()
    for _ in range(repeats):
        work()
    return (time.process_time() - began) / repeats


def main() -> None:
    torch.set_num_threads(1)
    backbone = Backbone.load(resolve("embedded"), torch.bfloat16, "cpu")
    backbone.add_adapter("policy", LoraSettings(), 0)
    batch = collate([list(range(5, 5 + TOKENS))] * ROWS, [[False] * TOKENS] * ROWS, 0)

    def step() -> None:
        with backbone.role("policy"):
            backbone.hidden(batch).float().square().mean().backward()

    print(f"{ROWS} x {TOKENS} tokens, plain attention   {cpu_seconds(step):6.2f} s")
    backbone._short = 0
    print(f"{ROWS} x {TOKENS} tokens, fused attention   {cpu_seconds(step):6.2f} s")


if __name__ == "__main__":
    main()
