"""AdamW, in three forms, over named parameters, with its learning-rate schedule, gradient clipping and saved state."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from harken.config.training import Optimisation
from harken.errors import NonFinite
from harken.run import signals
from harken.train.optim.adamw_8bit import adamw_8bit, exported, imported
from harken.train.optim.adamw_offload import OffloadedAdamW, on_host

PARAMETER_PREFIX = "parameter/"
"""Begins the names of what trains, in checkpoints and bundles; moments begin with `adam/`."""
STATE_KEYS = ("exp_avg", "exp_avg_sq", "exp_avg_scale", "exp_avg_sq_scale", "step")
"""What a parameter's state may hold; the scales are those of `adamw_8bit`."""
FOREACH_ELEMENTS = 1 << 24
"""Numbers that AdamW steps at once on a GPU: in a dozen launches, and with as much memory again for the moment."""
OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adamw_cpu_offload": OffloadedAdamW,
    "adamw_8bit": adamw_8bit,
}


def lr_multiplier(step: int, total: int, settings: Optimisation) -> float:
    """The factor on the learning rate for optimiser step `step` (from 0) of `total`.

    Linear warm-up to 1, then constant, linear to 0, or half a cosine to 0. The last step is above 0.
    """
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    done = (step - settings.warmup_steps) / max(total - settings.warmup_steps, 1)
    if settings.lr_schedule == "constant":
        return 1.0
    return 1.0 - done if settings.lr_schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))


def _groups(
    parameters: Mapping[str, nn.Parameter], rate: float, rates: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Parameters of one learning rate, at most `FOREACH_ELEMENTS` numbers of them (or one larger parameter)."""
    groups: list[dict[str, Any]] = []
    open_groups: dict[float, dict[str, Any]] = {}
    sizes: dict[float, int] = {}
    for name, parameter in parameters.items():
        own = rates.get(name, rate)
        sizes[own] = sizes.get(own, FOREACH_ELEMENTS) + parameter.numel()
        if sizes[own] > FOREACH_ELEMENTS:
            open_groups[own], sizes[own] = {"params": [], "lr": own}, parameter.numel()
            groups.append(open_groups[own])
        open_groups[own]["params"].append(parameter)
    return groups


class Optimiser:
    """Steps a set of named float32 parameters. `rates` gives single parameters a learning rate of their own."""

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        settings: Optimisation,
        rates: Mapping[str, float] | None = None,
    ) -> None:
        self.parameters, self.settings = dict(parameters), settings
        groups = _groups(self.parameters, settings.lr, rates or {})
        self._rates: list[float] = [group["lr"] for group in groups]
        kind = OPTIMISERS[settings.optimizer]
        self._adam = kind(groups, eps=settings.adam_eps, weight_decay=settings.weight_decay)

    def clip_and_step(self, lr_scale: float) -> float:
        """`clip`, then `step`. Returns the gradient norm before clipping; raises as `clip` does."""
        norm = self.clip()
        self.step(lr_scale)
        return norm

    def clip(self) -> float:
        """Clip the gradients; returns their norm before.

        Raises NonFinite, with parameters and moments untouched, when it is not finite: of several optimisers
        that move together all clip before any moves.
        """
        gradients = {name: p.grad for name, p in self.parameters.items() if p.grad is not None}
        norm = torch.nn.utils.get_total_norm(gradients.values())
        if not torch.isfinite(norm):
            broken = (name for name, gradient in gradients.items() if not torch.isfinite(gradient).all())
            raise NonFinite("gradient", float(norm), where=next(broken, "the sum over all parameters"))
        torch.nn.utils.clip_grads_with_norm_(self.parameters.values(), self.settings.max_grad_norm, norm)
        return float(norm)

    def step(self, lr_scale: float) -> None:
        """Step with every learning rate × `lr_scale`, and zero the gradients."""
        for group, rate in zip(self._adam.param_groups, self._rates, strict=True):
            group["lr"] = rate * lr_scale
        signals.mark_weights_changing()
        self._adam.step()
        self.zero_grad()

    def zero_grad(self) -> None:
        """Drop the gradients."""
        self._adam.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and optimiser state, by name, for a checkpoint."""
        saved = {PARAMETER_PREFIX + name: p.detach() for name, p in self.parameters.items()}
        for name, parameter in self.parameters.items():
            state = self._adam.state.get(parameter, {})
            moments = exported(state) if self._in_8_bits else state
            saved |= {f"adam/{part}/{name}": moments[part] for part in STATE_KEYS if part in moments}
        return saved

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore `tensors`, in place. Raises KeyError when a parameter is missing."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(tensors[PARAMETER_PREFIX + name])
                moments = {part: tensors.get(f"adam/{part}/{name}") for part in STATE_KEYS}
                kept = {part: value.clone() for part, value in moments.items() if value is not None}
                self._adam.state.pop(parameter, None)
                if kept:
                    self._adam.state[parameter] = self._state(kept, parameter.device)

    @property
    def _in_8_bits(self) -> bool:
        return self.settings.optimizer == "adamw_8bit"

    def _state(self, kept: Mapping[str, Tensor], device: torch.device) -> dict[str, Any]:
        if self._in_8_bits:
            return imported(self._adam, kept, device)
        return {
            part: value if part == "step" else self._placed(value, device) for part, value in kept.items()
        }

    def _placed(self, moment: Tensor, device: torch.device) -> Tensor:
        offloaded = isinstance(self._adam, OffloadedAdamW)
        return on_host(moment, device) if offloaded else moment.to(device)
