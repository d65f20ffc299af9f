"""Restore saved state into a stage, or raise one error that says what does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from harken.errors import UserError
from harken.run.checkpoint import PARAMETER_PREFIX

_MOMENTS = ("exp_avg", "exp_avg_sq")
_STATE_ERRORS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""Exceptions that a stage raises for state of another format."""


@runtime_checkable
class Restorable(Protocol):
    """Define the part of a stage that is saved and loaded."""

    total: int

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors a resumed run needs."""
        ...

    def load(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Restore `tensors` and `state`."""
        ...


def restore(
    stage: Restorable, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any], folder: Path
) -> None:
    """Restore what was saved in `folder` after `step` into `stage`.

    Raises UserError for a step beyond the run's last, for a weight or moment that is missing or has another shape
    (torch would silently broadcast a smaller tensor), and for state that the stage cannot read.
    """
    where = str(folder / f"step-{step:06d}")
    if step > stage.total:
        raise UserError(
            f"the checkpoint is of step {step}, but the run now has {stage.total} steps: its data or model changed",
            where=where,
            fix="restore the data and the model, or train into another --output-dir",
        )
    mismatch = _mismatch(stage.tensors(), tensors)
    if mismatch is None:
        try:
            stage.load(tensors, state)
        except _STATE_ERRORS as error:
            mismatch = f"{type(error).__name__}: {error}"
    if mismatch is not None:
        raise UserError(
            f"the saved state does not fit the run ({mismatch[:200]})",
            where=where,
            fix="delete that folder: the run resumes from the checkpoint before it",
        )


def _mismatch(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> str | None:
    """Describe the first weight or moment that is missing or has another shape; None if all fit."""
    for name, tensor in expected.items():
        if not name.startswith(PARAMETER_PREFIX):
            continue
        if name not in tensors:
            return f"{name} is missing"
        if tensors[name].shape != tensor.shape:
            return f"{name} has shape {list(tensors[name].shape)}, not {list(tensor.shape)}"
        for moment_name in _MOMENTS:
            key = name.removeprefix(PARAMETER_PREFIX)
            # 8-bit moments are stored in blocks, with one scale per block.
            is_8bit = f"adam/{moment_name}_scale/{key}" in tensors
            moment = tensors.get(f"adam/{moment_name}/{key}")
            if moment is not None and not is_8bit and moment.numel() != tensor.numel():
                return f"adam/{moment_name}/{key} has {moment.numel()} numbers, not {tensor.numel()}"
    return None
