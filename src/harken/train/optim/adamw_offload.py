"""AdamW whose moments live in the computer's memory, not in the GPU's."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from harken.train.optim.adamw_chunked import AdamWChunked


class OffloadedAdamW(AdamWChunked):
    """The very numbers of AdamW: moments visit the parameter's device a piece at a time, for their step.

    So the GPU holds no moments between steps, and the arithmetic is the same, bit for bit. The other way round,
    stepping on the CPU, would move half as many bytes, and cost a second copy of the weights and another rounding.
    """

    def init(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """Zeros on the host, in the parameter's shape."""
        zeros = torch.zeros(parameter.shape)
        return {name: on_host(zeros, parameter.device) for name in ("exp_avg", "exp_avg_sq")}

    def dequantize(
        self, state: Mapping[str, Tensor], piece: slice, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Copies on `device`; on the CPU the moments themselves."""
        first, second = (state[name].view(-1)[piece] for name in ("exp_avg", "exp_avg_sq"))
        return first.to(device, non_blocking=True), second.to(device, non_blocking=True)

    def quantize(self, state: Mapping[str, Tensor], piece: slice, first: Tensor, second: Tensor) -> None:
        """Back to the host, waiting for it: a checkpoint may read the moments at once."""
        state["exp_avg"].view(-1)[piece].copy_(first)
        state["exp_avg_sq"].view(-1)[piece].copy_(second)


def on_host(moment: Tensor, device: torch.device) -> Tensor:
    """A copy in the computer's memory; pinned, which makes copies to a GPU fast, when `device` is one."""
    copy = torch.empty(moment.shape, dtype=moment.dtype, pin_memory=device.type == "cuda")
    return copy.copy_(moment)
