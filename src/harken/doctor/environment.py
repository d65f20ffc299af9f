"""Checks of the place where the run will live: folder, disk, device."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from harken.doctor.check import ALL, Check, check
from harken.doctor.context import Context
from harken.doctor.finding import Outcome, error, note, ok, warning
from harken.run import config_lock
from harken.run.folder import RunFolder

GIB = 2**30


@check(
    ALL,
    what="whether output_dir can be written, and what it holds already",
    why="A folder that refuses the first checkpoint loses the hours before it.",
    items="S1-20",
)
def output_folder(context: Context) -> Outcome:
    """Nothing is written to find out."""
    output = context.output
    there = _existing(output)
    if not os.access(there, os.W_OK | os.X_OK):
        return error(f"{there} cannot be written", "choose another --output-dir")
    run = RunFolder(output)
    if not run.config.exists():
        return ok(f"{output} is new")
    settings = context.config.model_dump(mode="json", exclude={"output_dir"})
    differences = config_lock.differences(run.config, settings)
    made = run.final.exists() or run.checkpoints.exists()
    stand_in = context.around.untuned or context.around.unrewarded
    if differences and made and not stand_in:
        return error(
            f"{output} holds a run of another configuration: {'; '.join(differences[:3])}",
            "choose another --output-dir, or restore the configuration",
        )
    return note(f"{output} holds {'a finished run' if run.final.exists() else 'a run that will go on'}")


@check(
    ALL,
    what="free space against checkpoints and the finished model",
    why="A full disk ends the run; what it learnt since the last checkpoint is lost.",
    items="S1-20",
    cost="the model",
)
def disk_room(context: Context) -> Outcome:
    """Checkpoints hold what trains three times over, in float32: weights and two moments."""
    free = shutil.disk_usage(_existing(context.output)).free
    whole = sum(p.numel() * p.element_size() for p in context.base_parameters)
    trained = sum(p.numel() for p in context.trained.values())
    final = whole if context.kind == "sft" or not context.config.lora else 4 * trained
    needed = final + 12 * trained * (context.config.checkpoints.keep + 1)
    measured = f"{free / GIB:.1f} GiB free, about {needed / GIB:.2f} GiB needed"
    if free < needed:
        return error(measured, "free some space, lower checkpoints.keep, or choose another --output-dir")
    if free < 2 * needed:
        return warning(measured, "free some space, or lower checkpoints.keep")
    return ok(measured)


def _existing(path: Path) -> Path:
    """The nearest folder on the way that is there."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


FOLDER: tuple[Check, ...] = (output_folder,)
DISK: tuple[Check, ...] = (disk_room,)
