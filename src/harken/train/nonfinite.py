"""Skip steps that meet a NaN or an infinity, and write a dump of each.

Values are checked where they are already copied to the host. A step that meets a non-finite value raises `NonFinite`
before it changes a weight, or rolls back what it changed. `NonFiniteHandler` writes the dump, counts skipped steps, and
ends the run after too many in a row.

    <run>/nan_dumps/step-000012/   dump.json              which value, where; seed, versions, configuration
                                   batch.safetensors      the rows it occurred in, with their targets
                                   parameters.safetensors the trainable weights before the step
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors.torch import save
from torch import Tensor

from harken.errors import NonFinite, RunFailed
from harken.run import atomic, manifest
from harken.run.checkpoint import PARAMETER_PREFIX
from harken.run.folder import RunFolder
from harken.run.tracking import say

MAX_DUMPS = 4
"""Dumps that are kept. A run that ends under the default `max_skipped_steps` writes this many."""
SKIPPED = "skipped"
"""The key of a skipped step's line in metrics.jsonl: why it was skipped."""
_UNFINISHED = ".unfinished-"

Checked = tuple[str, Tensor, Tensor | None]
"""A quantity's name, its values, and the mask of those that are checked (None: all)."""


def check_finite(
    checked: Sequence[Checked],
    where: str,
    tensors: Callable[[], Mapping[str, Tensor]],
    names: Sequence[str] = (),
) -> None:
    """Raise NonFinite for the first quantity, in order, that is not finite. Costs one device synchronisation.

    Values are [rows] or [rows, time]. `tensors` returns what the dump holds; `names` are the names of the rows.
    """
    nonfinite = [
        ~torch.isfinite(values) if mask is None else ~torch.isfinite(values) & mask
        for _, values, mask in checked
    ]
    flags = torch.stack([places.any() for places in nonfinite]).tolist()
    if not any(flags):
        return
    first = flags.index(True)
    name, values, _ = checked[first]
    index = nonfinite[first].nonzero()[0].tolist()
    row, token = index[0], index[1] if len(index) > 1 else None
    at = f"{where}, row {names[row] if names else row}" + (f", token {token}" if token is not None else "")
    error = NonFinite(name, float(values[tuple(index)]), where=at, row=row, token=token)
    error.tensors = dict(tensors())
    raise error


def check_finite_loss(
    loss: float,
    checked: Sequence[Checked],
    where: str,
    tensors: Callable[[], Mapping[str, Tensor]],
    names: Sequence[str] = (),
) -> None:
    """Raise NonFinite if `loss` is not finite; free for a finite loss, which is on the host already.

    The error names the first of `checked` that is not finite, or the loss if all of them are.
    """
    if math.isfinite(loss):
        return
    check_finite(checked, where, tensors, names)
    error = NonFinite("loss", loss, where=where)
    error.tensors = dict(tensors())
    raise error


@contextmanager
def attach_tensors(tensors: Callable[[], Mapping[str, Tensor]]) -> Iterator[None]:
    """Attach `tensors` to a NonFinite that leaves this scope without any."""
    try:
        yield
    except NonFinite as error:
        error.tensors = error.tensors or dict(tensors())
        raise


@runtime_checkable
class Steppable(Protocol):
    """Define the part of a stage that the handler calls."""

    label: str

    def step(self, step: int) -> dict[str, float]:
        """Run step `step` (from 0), or raise NonFinite with the state unchanged."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors a resumed run needs; trainable ones begin with `parameter/`."""
        ...


class NonFiniteHandler:
    """Skip steps that meet a non-finite value: at most `max_skipped` in a row."""

    def __init__(self, run: RunFolder, seed: int, max_skipped: int, total: int) -> None:
        self.run, self.seed, self.max_skipped, self.total = run, seed, max_skipped, total
        self.skipped = 0
        """Skipped steps of this run."""
        self.skipped_in_a_row = 0
        """Skipped steps since the last step that was not skipped."""

    def count_logged(self, lines: Iterable[bytes]) -> None:
        """Count the skipped steps of an interrupted run, from the lines of metrics.jsonl."""
        for line in lines:
            self._count(SKIPPED in json.loads(line))

    def step(self, stage: Steppable, step: int) -> tuple[dict[str, float], str | None]:
        """Run step `step`. Returns its metrics and None; if skipped, the non-finite value and the reason."""
        try:
            metrics = stage.step(step)
        except NonFinite as error:
            reason, metrics = str(error), {error.quantity: error.value}
            self._write_dump(stage, step + 1, error)
            self._count(True)
            return metrics, reason
        self._count(False)
        return metrics, None

    def raise_if_too_many(self, reason: str | None) -> None:
        """Raise RunFailed if the latest step was skipped (for `reason`) and too many were skipped in a row.

        Also raised when every step of the run was skipped, because such a run trained nothing.
        """
        if reason is None or (
            self.skipped_in_a_row <= self.max_skipped and self.skipped_in_a_row < self.total
        ):
            return
        steps = "a step" if self.skipped_in_a_row == 1 else f"{self.skipped_in_a_row} steps in a row"
        raise RunFailed(
            f"{steps} met a NaN or infinite value, and max_skipped_steps is {self.max_skipped}; the last: {reason}",
            where=str(self.run.nan_dumps),
            fix="reproduce it from the dump as docs/health.md shows",
        )

    def _count(self, skipped: bool) -> None:
        self.skipped += skipped
        self.skipped_in_a_row = self.skipped_in_a_row + 1 if skipped else 0

    def _write_dump(self, stage: Steppable, step: int, error: NonFinite) -> None:
        """Write the dump atomically. On a full disk, warn and write none."""
        parameters = {
            name.removeprefix(PARAMETER_PREFIX): tensor
            for name, tensor in stage.tensors().items()
            if name.startswith(PARAMETER_PREFIX)
        }
        folder, name = self.run.nan_dumps, f"step-{step:06d}"
        unfinished = folder / (_UNFINISHED + name)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for leftover in folder.glob(f"{_UNFINISHED}*"):  # left by a process that was killed here
                shutil.rmtree(leftover)
            unfinished.mkdir()
            atomic.write_and_sync(unfinished / "batch.safetensors", save(_to_cpu(error.tensors)))
            atomic.write_and_sync(unfinished / "parameters.safetensors", save(_to_cpu(parameters)))
            atomic.write_json(unfinished / "dump.json", self._dump_info(stage.label, step, error))
            if (folder / name).exists():  # the same step, before the run was resumed
                self._delete_dump(name)
            os.rename(unfinished, folder / name)
            atomic.sync(folder)
            atomic.sync(self.run.root)
            for old in sorted(path.name for path in folder.glob("step-*"))[:-MAX_DUMPS]:
                self._delete_dump(old)
        except OSError as failure:
            shutil.rmtree(unfinished, ignore_errors=True)
            if not atomic.disk_is_full(failure):
                raise
            say(f"warning: no NaN dump of step {step}, the run continues: {failure.strerror} ({folder})")

    def _delete_dump(self, name: str) -> None:
        """Delete a dump. Rename it first, so that a partly deleted dump is never read as a complete one."""
        renamed = self.run.nan_dumps / f"{_UNFINISHED}old-{name}"
        os.rename(self.run.nan_dumps / name, renamed)
        shutil.rmtree(renamed)

    def _dump_info(self, label: str, step: int, error: NonFinite) -> dict[str, Any]:
        """Return the content of dump.json: it does not depend on when or how often the step was tried."""
        record = manifest.read_manifest(self.run.manifest) if self.run.manifest.exists() else {}
        versions = ("harken", "python", *manifest.PACKAGES)
        return {
            "stage": label,
            "step": step,
            "quantity": error.quantity,
            "value": str(error.value),
            "row": error.row,
            "token": error.token,
            "what": str(error),
            "seed": self.seed,
            "config": self.run.config.name,
            "device": record.get("device"),
            "versions": {name: record.get(name) for name in versions},
        }


def _to_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy to the CPU, each tensor into its own storage."""
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
