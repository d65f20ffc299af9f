"""Saved state into a stage: all of it fits, or one line says what does not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from harken.errors import UserError
from harken.train.optim.optimiser import PARAMETER_PREFIX

_MOMENTS = ("exp_avg", "exp_avg_sq")
_MISFITS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What a stage raises on state of another shape."""


@runtime_checkable
class Restorable(Protocol):
    """The part of a stage that is saved and loaded."""

    total: int

    def tensors(self) -> dict[str, Tensor]:
        """All tensors a resumed run needs."""
        ...

    def load(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Put them back."""
        ...


def restore(
    stage: Restorable, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any], folder: Path
) -> None:
    """Load what was saved in `folder` after `step` into `stage`.

    Raises UserError for a step that the run does not have, for a weight or a moment that is missing or of another
    shape (torch would spread a smaller tensor over a larger one without a word), and for state the stage cannot read.
    """
    where = str(folder / f"step-{step:06d}")
    if step > stage.total:
        raise UserError(
            f"it was saved after step {step}, and the run now has {stage.total}: its data or model changed",
            where=where,
            fix="restore them, or train into another --output-dir",
        )
    misfit = _misfit(stage.tensors(), tensors)
    if misfit is None:
        try:
            stage.load(tensors, state)
        except _MISFITS as error:
            misfit = f"{type(error).__name__}: {error}"
    if misfit is not None:
        raise UserError(
            f"this state does not fit the run ({misfit[:200]})",
            where=where,
            fix="delete that folder: the run goes on from the one before it",
        )


def _misfit(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str | None:
    """The first weight that is not there, or not of its shape, in words."""
    for name, tensor in wanted.items():
        if not name.startswith(PARAMETER_PREFIX):
            continue
        if name not in found:
            return f"{name} is missing"
        if found[name].shape != tensor.shape:
            return f"{name} is of shape {list(found[name].shape)}, not {list(tensor.shape)}"
        for part in _MOMENTS:
            key = name.removeprefix(PARAMETER_PREFIX)
            # Moments of eight bits come in blocks, with a scale for each.
            packed = f"adam/{part}_scale/{key}" in found
            moment = found.get(f"adam/{part}/{key}")
            if moment is not None and not packed and moment.numel() != tensor.numel():
                return f"adam/{part}/{key} has {moment.numel()} numbers, not {tensor.numel()}"
    return None
