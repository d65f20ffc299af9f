"""Check the environment of the run: output folder and disk."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from harken.doctor.check import ALL, Check, check
from harken.doctor.context import Context
from harken.doctor.finding import CheckOutcome, error, note, ok, warning
from harken.run import config_lock
from harken.run.folder import RunFolder

GIB = 2**30


@check(
    ALL,
    what="whether output_dir can be written, and what it already contains",
    why="If the first checkpoint cannot be written, all training before it is lost.",
)
def output_folder(context: Context) -> CheckOutcome:
    """Check without writing anything."""
    output = context.output
    parent = _existing(output)
    if not os.access(parent, os.W_OK | os.X_OK):
        return error(f"{parent} cannot be written", "choose another --output-dir")
    run = RunFolder(output)
    if not run.config.exists():
        return ok(f"{output} is new")
    settings = context.config.model_dump(mode="json", exclude={"output_dir"})
    differences = config_lock.locked_config_differences(run.config, settings)
    has_results = run.final.exists() or run.checkpoints.exists()
    temporary = context.pipeline.sft_missing or context.pipeline.reward_model_missing
    if differences and has_results and not temporary:
        return error(
            f"{output} contains a run with another configuration: {'; '.join(differences[:3])}",
            "choose another --output-dir, or restore the configuration",
        )
    return note(
        f"{output} contains {'a finished run' if run.final.exists() else 'an unfinished run, which will resume'}"
    )


@check(
    ALL,
    what="free disk space, compared with checkpoints and the final model",
    why="A full disk ends the run and loses everything since the last checkpoint.",
    cost="the model",
)
def disk_room(context: Context) -> CheckOutcome:
    """Compare free space with checkpoints: weights, m and v of all trainable parameters in float32."""
    free = shutil.disk_usage(_existing(context.output)).free
    base_bytes = sum(p.numel() * p.element_size() for p in context.base_parameters)
    trained = sum(p.numel() for p in context.trainable.values())
    final = base_bytes if context.kind == "sft" or not context.config.lora else 4 * trained
    needed = final + 12 * trained * (context.config.checkpoints.keep + 1)
    measured = f"{free / GIB:.1f} GiB free, about {needed / GIB:.2f} GiB needed"
    if free < needed:
        return error(measured, "free some space, lower checkpoints.keep, or choose another --output-dir")
    if free < 2 * needed:
        return warning(measured, "free some space, or lower checkpoints.keep")
    return ok(measured)


def _existing(path: Path) -> Path:
    """Return the nearest parent that exists."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


FOLDER_CHECKS: tuple[Check, ...] = (output_folder,)
DISK_CHECKS: tuple[Check, ...] = (disk_room,)
