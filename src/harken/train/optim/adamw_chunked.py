"""AdamW whose moments rest in another form than they are used in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

BETAS = (0.9, 0.999)
PIECE = 1 << 22
"""Elements whose moments are open at a time: 32 MiB of float32, whatever the size of a parameter."""


class AdamWChunked(torch.optim.Optimizer):
    """A subclass says how moments rest (`fresh`), are opened to float32 (`opened`) and put back (`closed`).

    In between, torch's own AdamW steps a piece of a parameter, on the parameter's device: what an element becomes
    depends on that element alone, so pieces change memory and nothing else. Parameters are float32 and contiguous.
    """

    def __init__(
        self, groups: Iterable[Mapping[str, Any]], eps: float = 1e-8, weight_decay: float = 0.0
    ) -> None:
        super().__init__([dict(group) for group in groups], {"eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step of every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, group)

    def _step(self, parameter: nn.Parameter, group: Mapping[str, Any]) -> None:
        assert parameter.grad is not None
        state = self.state[parameter]
        if not state:
            state.update(self.init(parameter), step=torch.tensor(0.0))
        values, gradient = parameter.view(-1), parameter.grad.reshape(-1)
        for start in range(0, len(values), PIECE):
            piece = slice(start, min(start + PIECE, len(values)))
            first, second = self.dequantize(state, piece, parameter.device)
            adamw(
                [values[piece]], [gradient[piece]], [first], [second], [], [state["step"].clone()],
                amsgrad=False, beta1=BETAS[0], beta2=BETAS[1], lr=group["lr"],
                weight_decay=group["weight_decay"], eps=group["eps"], maximize=False,
            )  # fmt: skip
            self.quantize(state, piece, first, second)
        state["step"] += 1

    def init(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """Both moments of a parameter at zero, at rest."""
        raise NotImplementedError

    def dequantize(
        self, state: Mapping[str, Tensor], piece: slice, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """First and second moment of some of a parameter's elements, flat float32 on `device`."""
        raise NotImplementedError

    def quantize(self, state: Mapping[str, Tensor], piece: slice, first: Tensor, second: Tensor) -> None:
        """Put them back to rest, in place."""
        raise NotImplementedError
