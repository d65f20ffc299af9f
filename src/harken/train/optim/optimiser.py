"""AdamW over named parameters, with learning-rate schedule, gradient clipping and saved state."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from harken.config.training import Optimisation
from harken.errors import NonFinite
from harken.run import signals
from harken.run.checkpoint import PARAMETER_PREFIX
from harken.train.optim.adamw_8bit import adamw_8bit, export_state, import_state
from harken.train.optim.adamw_offload import OffloadedAdamW, to_host

STATE_KEYS = ("exp_avg", "exp_avg_sq", "exp_avg_scale", "exp_avg_sq_scale", "step")
"""Names of a parameter's optimiser state; the scales are those of `adamw_8bit`."""
FOREACH_ELEMENTS = 1 << 24
"""Elements that AdamW steps at once on a GPU: a dozen kernel launches, and temporary memory of the same size."""
OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adamw_cpu_offload": OffloadedAdamW,
    "adamw_8bit": adamw_8bit,
}


def lr_multiplier(step: int, total: int, settings: Optimisation) -> float:
    """Compute the learning-rate multiplier of optimiser step `step` (from 0) of `total`.

    Linear warm-up to 1, then constant, linear decay to 0 or cosine decay to 0. The last step's multiplier is above 0.
    """
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    done = (step - settings.warmup_steps) / max(total - settings.warmup_steps, 1)
    if settings.lr_schedule == "constant":
        return 1.0
    return 1.0 - done if settings.lr_schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))


def _param_groups(
    parameters: Mapping[str, nn.Parameter], lr: float, lrs: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Group parameters by learning rate, with at most `FOREACH_ELEMENTS` elements (or one parameter) per group."""
    groups: list[dict[str, Any]] = []
    open_groups: dict[float, dict[str, Any]] = {}
    sizes: dict[float, int] = {}
    for name, parameter in parameters.items():
        group_lr = lrs.get(name, lr)
        sizes[group_lr] = sizes.get(group_lr, FOREACH_ELEMENTS) + parameter.numel()
        if sizes[group_lr] > FOREACH_ELEMENTS:
            open_groups[group_lr], sizes[group_lr] = {"params": [], "lr": group_lr}, parameter.numel()
            groups.append(open_groups[group_lr])
        open_groups[group_lr]["params"].append(parameter)
    return groups


class Optimiser:
    """Optimise named float32 parameters. `lrs` sets the learning rate of single parameters."""

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        settings: Optimisation,
        lrs: Mapping[str, float] | None = None,
    ) -> None:
        self.parameters, self.settings = dict(parameters), settings
        groups = _param_groups(self.parameters, settings.lr, lrs or {})
        self._lrs: list[float] = [group["lr"] for group in groups]
        self._adam = OPTIMISERS[settings.optimizer](
            groups, eps=settings.adam_eps, weight_decay=settings.weight_decay
        )

    def clip_and_step(self, lr_scale: float) -> float:
        """Call `clip`, then `step`. Returns the gradient norm before clipping; raises as `clip` does."""
        norm = self.clip()
        self.step(lr_scale)
        return norm

    def clip(self) -> float:
        """Clip the gradients. Returns their norm before clipping.

        Raises NonFinite if the norm is not finite; parameters and optimiser state are unchanged. If several optimisers
        step together, all must clip before the first steps.
        """
        gradients = {name: p.grad for name, p in self.parameters.items() if p.grad is not None}
        norm = torch.nn.utils.get_total_norm(gradients.values())
        if not torch.isfinite(norm):
            nonfinite = (name for name, gradient in gradients.items() if not torch.isfinite(gradient).all())
            raise NonFinite("gradient", float(norm), where=next(nonfinite, "the sum over all parameters"))
        torch.nn.utils.clip_grads_with_norm_(self.parameters.values(), self.settings.max_grad_norm, norm)
        return float(norm)

    def step(self, lr_scale: float) -> None:
        """Step with every learning rate × `lr_scale`, and zero the gradients."""
        for group, lr in zip(self._adam.param_groups, self._lrs, strict=True):
            group["lr"] = lr * lr_scale
        signals.mark_weights_changing()
        self._adam.step()
        self.zero_grad()

    def zero_grad(self) -> None:
        """Zero the gradients."""
        self._adam.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """Return parameters and optimiser state, by name, for a checkpoint."""
        saved = {PARAMETER_PREFIX + name: p.detach() for name, p in self.parameters.items()}
        for name, parameter in self.parameters.items():
            state = self._adam.state.get(parameter, {})
            state = export_state(state) if self._is_8bit else state
            saved |= {f"adam/{key}/{name}": state[key] for key in STATE_KEYS if key in state}
        return saved

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore `tensors`, in place. Raises KeyError when a parameter is missing."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(tensors[PARAMETER_PREFIX + name])
                saved = {key: tensors.get(f"adam/{key}/{name}") for key in STATE_KEYS}
                state = {key: value.clone() for key, value in saved.items() if value is not None}
                self._adam.state.pop(parameter, None)
                if state:
                    self._adam.state[parameter] = self._to_adam_state(state, parameter.device)

    @property
    def _is_8bit(self) -> bool:
        return self.settings.optimizer == "adamw_8bit"

    def _to_adam_state(self, saved: Mapping[str, Tensor], device: torch.device) -> dict[str, Any]:
        if self._is_8bit:
            return import_state(self._adam, saved, device)
        return {
            key: value if key == "step" else self._moment_to(value, device) for key, value in saved.items()
        }

    def _moment_to(self, moment: Tensor, device: torch.device) -> Tensor:
        offloaded = isinstance(self._adam, OffloadedAdamW)
        return to_host(moment, device) if offloaded else moment.to(device)
