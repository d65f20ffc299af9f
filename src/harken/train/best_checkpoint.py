"""Keep the weights of the best step by held-out evaluation, and restore them at the end of the run."""

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
from harken.run.checkpoint import PARAMETER_PREFIX
from harken.run.tracking import say
from harken.train.restore import restore


@runtime_checkable
class Selectable(Protocol):
    """Define the part of a stage that the choice of a best checkpoint needs."""

    label: str
    total: int

    def selection_metric(self, metrics: Mapping[str, float]) -> float | None:
        """Return the selection metric, higher is better; −∞: not eligible; None: nothing was measured."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors a resumed run needs."""
        ...

    def state(self) -> dict[str, Any]:
        """Return all other state a resumed run needs."""
        ...

    def load(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Restore `tensors` and `state`."""
        ...


class BestCheckpoint:
    """Keep one checkpoint in `folder`: weights and their selection metric.

    A resumed run repeats the same steps with the same results. So a best checkpoint from after the resume point stays
    valid: the run will find it again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        saved = checkpoint.latest(folder)
        checkpoint.prune(folder, keep=1)
        self.step = saved.step if saved else None
        self.metric = _saved_metric(saved.state.get("selection_metric", ""), folder) if saved else None

    def out_of_patience(self, step: int, eval_every: int, patience: int | None) -> str | None:
        """Return why the run should end after `step`: `patience` evaluations without a better one. None to continue."""
        if patience is None or self.step is None or step - self.step < patience * eval_every:
            return None
        return f"patience: no held-out evaluation since step {self.step} was better"

    def consider(self, step: int, stage: Selectable, metrics: Mapping[str, float]) -> None:
        """Save this step's weights if they are the best so far. Ties keep the earlier checkpoint.

        So if no step is eligible (−∞), the first that was measured is kept: training changed it least.
        Raises OSError if the disk is full.
        """
        metric = stage.selection_metric(metrics)
        if metric is None or (self.metric is not None and metric <= self.metric):
            return
        weights = {name: t for name, t in stage.tensors().items() if name.startswith(PARAMETER_PREFIX)}
        saved_metric = None if metric == -math.inf else metric
        if not checkpoint.save(self.folder, step, weights, {"selection_metric": saved_metric}, keep=1):
            # Without this error the run would silently end with other weights than the best.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder))
        self.step, self.metric = step, metric

    def restore(self, stage: Selectable, done: int) -> None:
        """Restore the best weights into the stage, or keep the last if none were saved; print their step."""
        best = checkpoint.latest(self.folder)
        if best is None:
            say(f"{stage.label}: final is step {done}, the last: no held-out evaluation to choose by")
            return
        if best.step != done:
            restore(stage, best.step, stage.tensors() | best.tensors, stage.state(), self.folder)
        if self.metric == -math.inf:
            say(
                f"warning: {stage.label}: no step was eligible as the best (docs/modes.md); "
                f"final is step {best.step} of {done}, the first that was measured"
            )
            return
        say(
            f"{stage.label}: final is step {best.step} of {done}, the best on held-out rows ({self.metric:+.4g})"
        )


def _saved_metric(metric: object, folder: Path) -> float:
    """Read a checkpoint's selection metric; −∞ is stored as null, because JSON has no infinity."""
    if isinstance(metric, int | float) and not isinstance(metric, bool):
        return float(metric)
    if metric is not None:
        raise UserError(
            "the checkpoint has no selection metric",
            where=str(folder),
            fix="delete that folder: the best step is then chosen among the steps from here on",
        )
    return -math.inf
