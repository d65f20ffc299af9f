"""Numbers that are not finite: a step that meets one changes nothing, is written down, and is skipped.

Who computes a number looks at it where it is on its way to Python anyway, and raises `NonFinite` before anything that
trains has moved, or takes back what has. `Guard` writes the bundle, counts, and ends the run when too many steps in a
row were skipped.

    <run>/faults/step-000012/   fault.json             what was not finite, where; seed, versions, configuration
                                batch.safetensors      the rows it was met in, with what belongs to them
                                parameters.safetensors what trains, as it was before the step
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
from harken.run.folder import RunFolder
from harken.run.tracking import say
from harken.train.optim.optimiser import WEIGHTS

KEPT = 4
"""Bundles of the latest faults: as many as a run leaves that ends under the default `max_skipped_steps`."""
SKIPPED = "skipped"
"""The key of a skipped step's line in metrics.jsonl: why it was skipped."""
_UNFINISHED = ".unfinished-"

Checked = tuple[str, Tensor, Tensor | None]
"""A quantity's name, its values, and where they count (None: everywhere)."""


def check_finite(
    checked: Sequence[Checked],
    where: str,
    tensors: Callable[[], Mapping[str, Tensor]],
    names: Sequence[str] = (),
) -> None:
    """One look at the device for all quantities. Raises NonFinite for the first, in order, that is not finite.

    Values are [rows] or [rows, time]. `tensors` shows the fault again, `names` are what the rows are called.
    """
    broken = [
        ~torch.isfinite(values) if counts is None else ~torch.isfinite(values) & counts
        for _, values, counts in checked
    ]
    found = torch.stack([places.any() for places in broken]).tolist()
    if not any(found):
        return
    first = found.index(True)
    name, values, _ = checked[first]
    place = broken[first].nonzero()[0].tolist()
    row, token = place[0], place[1] if len(place) > 1 else None
    at = f"{where}, row {names[row] if names else row}" + (f", token {token}" if token is not None else "")
    fault = NonFinite(name, float(values[tuple(place)]), where=at, row=row, token=token)
    fault.tensors = dict(tensors())
    raise fault


def check_finite_loss(
    loss: float,
    checked: Sequence[Checked],
    where: str,
    tensors: Callable[[], Mapping[str, Tensor]],
    names: Sequence[str] = (),
) -> None:
    """Nothing for a finite `loss`, which Python has already: no look at the device. Raises NonFinite otherwise.

    For the quantity that made the loss what it is, where one of `looked` did, else for the loss itself.
    """
    if math.isfinite(loss):
        return
    check_finite(checked, where, tensors, names)
    fault = NonFinite("loss", loss, where=where)
    fault.tensors = dict(tensors())
    raise fault


@contextmanager
def attach_tensors(tensors: Callable[[], Mapping[str, Tensor]]) -> Iterator[None]:
    """A NonFinite that leaves this scope and shows nothing yet is shown by these."""
    try:
        yield
    except NonFinite as fault:
        fault.tensors = fault.tensors or dict(tensors())
        raise


@runtime_checkable
class Steps(Protocol):
    """The part of a stage that is guarded."""

    label: str

    def step(self, number: int) -> dict[str, float]:
        """Do step `number` (from 0), or raise NonFinite and leave everything as it was."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """All tensors a resumed run needs; those that train begin with `parameter/`."""
        ...


class NonFiniteHandler:
    """Skips steps that meet a number that is not finite: at most `most` one after the other."""

    def __init__(self, run: RunFolder, seed: int, most: int, total: int) -> None:
        self.run, self.seed, self.most, self.total = run, seed, most, total
        self.skipped = 0
        """Steps of this run that were skipped."""
        self.in_a_row = 0
        """The latest of them, without a step between that was done."""

    def replay(self, lines: Iterable[bytes]) -> None:
        """Count what an interrupted run skipped, from the lines of metrics.jsonl."""
        for line in lines:
            self._count(SKIPPED in json.loads(line))

    def step(self, stage: Steps, number: int) -> tuple[dict[str, float], str | None]:
        """The step's metrics and None; or of a skipped one the quantity that was not finite, and why, in a line."""
        try:
            metrics = stage.step(number)
        except NonFinite as fault:
            why, metrics = str(fault), {fault.quantity: fault.value}
            self._write(stage, number + 1, fault)
            self._count(True)
            return metrics, why
        self._count(False)
        return metrics, None

    def require_room(self, why: str | None) -> None:
        """Raises RunFailed when the latest step was skipped (`why`) and there may be no more of them.

        A run of which nothing is left to be trained on is not a finished one either.
        """
        if why is None or (self.in_a_row <= self.most and self.in_a_row < self.total):
            return
        steps = "a step" if self.in_a_row == 1 else f"{self.in_a_row} steps in a row"
        raise RunFailed(
            f"{steps} met a number that is not finite, and max_skipped_steps is {self.most}; the last: {why}",
            where=str(self.run.faults),
            fix="docs/health.md tells how to see it again",
        )

    def _count(self, skipped: bool) -> None:
        self.skipped += skipped
        self.in_a_row = self.in_a_row + 1 if skipped else 0

    def _write(self, stage: Steps, step: int, fault: NonFinite) -> None:
        """The bundle, whole or not at all. A full disk costs the bundle, with a warning."""
        parameters = {
            name.removeprefix(WEIGHTS): tensor
            for name, tensor in stage.tensors().items()
            if name.startswith(WEIGHTS)
        }
        folder, name = self.run.faults, f"step-{step:06d}"
        unfinished = folder / (_UNFINISHED + name)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for left in folder.glob(f"{_UNFINISHED}*"):  # by a run that was killed here
                shutil.rmtree(left)
            unfinished.mkdir()
            atomic.write_new(unfinished / "batch.safetensors", save(_plain(fault.tensors)))
            atomic.write_new(unfinished / "parameters.safetensors", save(_plain(parameters)))
            atomic.write_json(unfinished / "fault.json", self._card(stage.label, step, fault))
            if (folder / name).exists():  # of the same step before the run was resumed
                self._drop(name)
            os.rename(unfinished, folder / name)
            atomic.sync(folder)
            atomic.sync(self.run.root)
            for old in sorted(path.name for path in folder.glob("step-*"))[:-KEPT]:
                self._drop(old)
        except OSError as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            if not atomic.disk_is_full(error):
                raise
            say(
                f"warning: no bundle of the fault in step {step}, the run goes on: {error.strerror} ({folder})"
            )

    def _drop(self, name: str) -> None:
        """Delete a bundle. It loses its name first: a half-deleted one is never taken for whole."""
        nameless = self.run.faults / f"{_UNFINISHED}old-{name}"
        os.rename(self.run.faults / name, nameless)
        shutil.rmtree(nameless)

    def _card(self, label: str, step: int, fault: NonFinite) -> dict[str, Any]:
        """fault.json: nothing in it depends on when or how often the step was tried."""
        made = manifest.read_manifest(self.run.manifest) if self.run.manifest.exists() else {}
        versions = ("harken", "python", *manifest.PACKAGES)
        return {
            "stage": label,
            "step": step,
            "quantity": fault.quantity,
            "value": str(fault.value),
            "row": fault.row,
            "token": fault.token,
            "what": str(fault),
            "seed": self.seed,
            "config": self.run.config.name,
            "device": made.get("device"),
            "versions": {name: made.get(name) for name in versions},
        }


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, each in a memory of its own."""
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
