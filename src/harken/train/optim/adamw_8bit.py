"""AdamW with moments of eight bits: a byte a number, and a scale for every 256 of them.

Source: Dettmers, Lewis, Shleifer, Zettlemoyer 2022, "8-bit Optimizers via Block-wise Quantization"
(arXiv:2110.02861). One change: the second moment has no level at zero, where the update would be divided by eps
(Li, Chen, Zhu 2023, arXiv:2309.01507, §4.1).

Written here because the two libraries that have it weigh more than it does: bitsandbytes 0.50 brings 124 MB of
native code for a few lines of arithmetic, torchao 0.18 needs a C++ compiler at the first step on a CPU. This runs
wherever torch runs, gives the same bits after a resume, and its state is plain tensors.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from harken.train.optim.adamw_chunked import AdamWChunked

BLOCK = 256
SMALLEST = 4096
"""A parameter of fewer elements keeps moments in float32: a head or a bias, where bytes are few and errors dear."""


class AdamW8bit(AdamWChunked):
    """Moments are opened to float32 for the step and rounded to the nearest level after it."""

    def init(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """Bytes [blocks, 256] and scales [blocks] beside the parameter; float32 for a small one."""
        zeros = torch.zeros(parameter.numel(), device=parameter.device)
        if parameter.numel() < SMALLEST:
            return {"exp_avg": zeros, "exp_avg_sq": zeros.clone()}
        first, first_scale = quantised(zeros, SIGNED)
        second, second_scale = quantised(zeros, POSITIVE)
        return {
            "exp_avg": first, "exp_avg_scale": first_scale,
            "exp_avg_sq": second, "exp_avg_sq_scale": second_scale,
        }  # fmt: skip

    def dequantize(
        self, state: Mapping[str, Tensor], piece: slice, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """The moments the bytes stand for."""
        if "exp_avg_scale" not in state:
            return state["exp_avg"][piece], state["exp_avg_sq"][piece]
        blocks, count = _blocks(piece), piece.stop - piece.start
        first = restored(state["exp_avg"][blocks], state["exp_avg_scale"][blocks], SIGNED)
        second = restored(state["exp_avg_sq"][blocks], state["exp_avg_sq_scale"][blocks], POSITIVE)
        return first[:count], second[:count]

    def quantize(self, state: Mapping[str, Tensor], piece: slice, first: Tensor, second: Tensor) -> None:
        """Round them. A small parameter's moments were changed in place."""
        if "exp_avg_scale" not in state:
            return
        blocks = _blocks(piece)
        state["exp_avg"][blocks], state["exp_avg_scale"][blocks] = quantised(first, SIGNED)
        state["exp_avg_sq"][blocks], state["exp_avg_sq_scale"][blocks] = quantised(second, POSITIVE)


def dynamic_levels(signed: bool) -> Float[Tensor, " 256"]:
    """The 256 levels in [-1, 1] or (0, 1], ascending, that a number divided by its block's largest is rounded to.

    Seven decades, each with twice the levels of the one below: fine for large numbers, and small ones keep their
    order of magnitude. Source: arXiv:2110.02861 §1.3.
    """
    levels = [1.0]
    for decade in range(7):
        # Halfway between `count` + 1 equally spaced marks in 0.1 … 1.
        count = 2**decade if signed else 2 ** (decade + 1)
        marks = [10.0 ** (decade - 6) * (0.1 + 0.9 * (i + 0.5) / count) for i in range(count)]
        levels += marks + [-m for m in marks] if signed else marks
    # A positive number needs no zero: see the top of this file. The place goes to half the smallest level.
    levels.append(0.0 if signed else min(levels) / 2)
    return torch.tensor(sorted(levels))


SIGNED, POSITIVE = dynamic_levels(signed=True), dynamic_levels(signed=False)


def quantised(
    values: Float[Tensor, " n"], levels: Float[Tensor, " 256"]
) -> tuple[UInt8[Tensor, "blocks 256"], Float[Tensor, " blocks"]]:
    """The index of the nearest level for each number, and the largest magnitude of each block of 256."""
    blocks = nn.functional.pad(values, (0, -len(values) % BLOCK)).view(-1, BLOCK)
    scale = blocks.abs().amax(1)
    halfway = ((levels[1:] + levels[:-1]) / 2).to(values.device)
    unit = blocks / scale.clamp(min=torch.finfo(torch.float32).tiny)[:, None]
    return torch.bucketize(unit, halfway, out_int32=True).to(torch.uint8), scale


def restored(
    index: UInt8[Tensor, "blocks 256"], scale: Float[Tensor, " blocks"], levels: Float[Tensor, " 256"]
) -> Float[Tensor, " n"]:
    """The numbers that levels and scales stand for; the last block's padding included."""
    return (levels.to(index.device)[index.int()] * scale[:, None]).view(-1)


def _blocks(piece: slice) -> slice:
    return slice(piece.start // BLOCK, -(-piece.stop // BLOCK))
