"""Keeps the weights of the best step, so that a run need not end with its last."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from harken.errors import UserError
from harken.run import checkpoint
from harken.run.tracking import say
from harken.train.optim.optimiser import PARAMETER_PREFIX
from harken.train.restore import restore


@runtime_checkable
class Selectable(Protocol):
    """The part of a stage that choosing needs."""

    label: str
    total: int

    def selection_metric(self, metrics: Mapping[str, float]) -> float | None:
        """How good the weights are; −∞ when they are not fit to be chosen, None when nothing was measured."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """All tensors a resumed run needs."""
        ...

    def state(self) -> dict[str, Any]:
        """All other state a resumed run needs."""
        ...

    def load(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Put both back."""
        ...


class BestCheckpoint:
    """`folder` holds one checkpoint: the weights alone, and the quality they had.

    A resumed run meets the same steps with the same results, so a best from after the point of resuming is
    the one it will find again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kept = checkpoint.latest(folder)
        checkpoint.prune(folder, keep=1)
        self.step = kept.step if kept else None
        self.value = _known(kept.state.get("selection_metric", ""), folder) if kept else None

    def out_of_patience(self, step: int, eval_every: int, patience: int | None) -> str | None:
        """Why to end after `step`: `patience` evaluations came and went without a better one. None to go on."""
        if patience is None or self.step is None or step - self.step < patience * eval_every:
            return None
        return f"patience: no held-out evaluation since step {self.step} was better"

    def consider(self, step: int, stage: Selectable, metrics: Mapping[str, float]) -> None:
        """Keep this step's weights if they are the best so far. Of equals the earlier one stays.

        So where no step is fit to be chosen (−∞), the first that was measured is kept: the least has happened to it.
        Raises OSError when the disk has no room for them.
        """
        value = stage.selection_metric(metrics)
        if value is None or (self.value is not None and value <= self.value):
            return
        weights = {name: t for name, t in stage.tensors().items() if name.startswith(PARAMETER_PREFIX)}
        known = None if value == -math.inf else value
        if not checkpoint.save(self.folder, step, weights, {"selection_metric": known}, keep=1):
            # Without them the run would end with other weights than it should, and nobody would know.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder))
        self.step, self.value = step, value

    def restore(self, stage: Selectable, done: int) -> None:
        """Put the best weights into the stage. Without any, the last stay; either way it is said."""
        kept = checkpoint.latest(self.folder)
        if kept is None:
            say(f"{stage.label}: final is step {done}, the last: no held-out measure chose another")
            return
        if kept.step != done:
            restore(stage, kept.step, stage.tensors() | kept.tensors, stage.state(), self.folder)
        if self.value == -math.inf:
            say(
                f"warning: {stage.label}: no step was fit to be chosen (docs/modes.md says when one is); "
                f"final is step {kept.step} of {done}, the first that was measured"
            )
            return
        say(
            f"{stage.label}: final is step {kept.step} of {done}, the best on held-out rows ({self.value:+.4g})"
        )


def _known(quality: object, folder: Path) -> float:
    if isinstance(quality, int | float) and not isinstance(quality, bool):
        return float(quality)
    if quality is not None:
        raise UserError(
            "it does not say how good its weights are",
            where=str(folder),
            fix="delete that folder: the best step is looked for from here on",
        )
    return -math.inf
