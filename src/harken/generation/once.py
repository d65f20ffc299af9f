"""Write the results of a stage once: lock the folder's settings, resume, and leave a finished folder unchanged."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from harken.run import checksums, manifest
from harken.run.config_lock import lock_config, read_locked_config, write_config
from harken.run.folder import PairsFolder, ResponsesFolder, RunFolder
from harken.run.sycophancy_folder import SycophancyFolder
from harken.run.tracking import say


@dataclass(frozen=True)
class WrittenResults:
    """Hold what the manifest records of a stage: the lineage of its inputs, and counts of its outputs."""

    lineage: dict[str, Any]
    counts: dict[str, Any]
    lines: list[str] = field(default_factory=list)
    """Lines to print when the folder is finished."""


def write_once(
    folder: ResponsesFolder | PairsFolder | SycophancyFolder,
    settings: dict[str, Any],
    make: Callable[[], WrittenResults],
) -> None:
    """Lock the folder to `settings` and, unless it is finished, call `make`, which writes the results.

    The manifest is written after the results and the checksums last: a folder with a manifest has all results. Raises
    UserError if the folder holds results of other settings or inputs.
    """
    own = folder.checksummed_files()
    if (
        lock_config(folder.config, settings, folder.manifest, folder.shards, own=own)
        and folder.manifest.exists()
    ):
        shutil.rmtree(folder.shards, ignore_errors=True)
        if checksums.read_checksums(folder.root) is None:  # the process ended before it wrote them
            checksums.write_checksums(folder.root, folder.checksummed_files())
        say(f"{folder.root}: finished; nothing to do")
        return
    checksums.remove_checksums(folder.root)
    if read_locked_config(folder.config) != settings:  # its paths moved with the folder
        write_config(folder.config, settings)
    results = make()
    manifest.write_manifest(RunFolder(folder.root), settings, results.lineage, {"counts": results.counts})
    checksums.write_checksums(folder.root, folder.checksummed_files())
    shutil.rmtree(folder.shards, ignore_errors=True)
    for line in results.lines:
        say(line)
