"""AdamW with its moments in host memory instead of GPU memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

BETAS = (0.9, 0.999)
CHUNK_ELEMENTS = 1 << 22
"""Elements whose moments are on the device at one time: 32 MiB of float32, for parameters of any size."""
MOMENTS = ("exp_avg", "exp_avg_sq")


class OffloadedAdamW(torch.optim.Optimizer):
    """Compute torch's AdamW, bit for bit: each chunk of the moments is copied to the parameter's device for its step.

    AdamW is element-wise, so the chunk size changes memory and nothing else. Stepping on the CPU would transfer half as
    many bytes, but need a second copy of the weights and round differently. Parameters are float32 and contiguous.
    """

    def __init__(
        self, groups: Iterable[Mapping[str, Any]], eps: float = 1e-8, weight_decay: float = 0.0
    ) -> None:
        super().__init__([dict(group) for group in groups], {"eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Step every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, group)

    def _step(self, parameter: nn.Parameter, group: Mapping[str, Any]) -> None:
        assert parameter.grad is not None
        state = self.state[parameter]
        if not state:
            zeros = torch.zeros(parameter.shape)
            state.update({name: to_host(zeros, parameter.device) for name in MOMENTS}, step=torch.tensor(0.0))
        values, gradient = parameter.view(-1), parameter.grad.reshape(-1)
        for start in range(0, len(values), CHUNK_ELEMENTS):
            chunk = slice(start, min(start + CHUNK_ELEMENTS, len(values)))
            moments = moments_to_device(state, chunk, parameter.device)
            adamw(
                [values[chunk]], [gradient[chunk]], [moments[0]], [moments[1]], [], [state["step"].clone()],
                amsgrad=False, beta1=BETAS[0], beta2=BETAS[1], lr=group["lr"],
                weight_decay=group["weight_decay"], eps=group["eps"], maximize=False,
            )  # fmt: skip
            moments_to_host(state, chunk, moments)
        state["step"] += 1


def moments_to_device(state: Mapping[str, Tensor], chunk: slice, device: torch.device) -> list[Tensor]:
    """Copy both moments of a chunk to `device`; on the CPU, return views of them."""
    return [state[name].view(-1)[chunk].to(device, non_blocking=True) for name in MOMENTS]


def moments_to_host(state: Mapping[str, Tensor], chunk: slice, moments: Iterable[Tensor]) -> None:
    """Copy both moments of a chunk to the host. Blocks, because a checkpoint may read them next."""
    for name, moment in zip(MOMENTS, moments, strict=True):
        state[name].view(-1)[chunk].copy_(moment)


def to_host(moment: Tensor, device: torch.device) -> Tensor:
    """Copy to host memory, pinned if `device` is a GPU (faster copies)."""
    copy = torch.empty(moment.shape, dtype=moment.dtype, pin_memory=device.type == "cuda")
    return copy.copy_(moment)
