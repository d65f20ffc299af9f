"""Find the models that a model was trained from, by the manifests of their runs."""

from __future__ import annotations

from pathlib import Path

from harken.errors import UserError
from harken.models.resolve import ModelSource, resolve
from harken.run.folder import RunFolder
from harken.run.manifest import find_lineage


def ancestor_fingerprints(source: ModelSource) -> set[str]:
    """Return the fingerprints of a model, of its bases, and of all models that their runs started from.

    The final model of a run counts as an ancestor of the run's checkpoints.
    """
    links = source.chain()
    found = {link.lineage_fingerprint for link in links}
    # A checkpoint's folder is in the model cache; only its name tells its run.
    waiting = [Path(source.name).expanduser(), *(link.folder for link in links)]
    seen: set[Path] = set()
    while waiting:
        run = _run_of(waiting.pop())
        if run is None or run.root in seen:
            continue
        seen.add(run.root)
        lineage = find_lineage(run.manifest)
        found |= {str(lineage["fingerprint"])} if "fingerprint" in lineage else set()
        found |= _final_fingerprint(run)
        if isinstance(folder := lineage.get("folder"), str):
            waiting.append(Path(folder))
    return found


def _run_of(path: Path) -> RunFolder | None:
    """Return the run that is at `path`, or that `path` is the final model or a checkpoint of."""
    if not path.exists():
        return None
    path = path.resolve()
    runs = (RunFolder(folder) for folder in (path, *path.parents[:2]))
    return next((run for run in runs if run.manifest.is_file()), None)


def _final_fingerprint(run: RunFolder) -> set[str]:
    try:
        return {resolve(str(run.final)).lineage_fingerprint} if run.final.is_dir() else set()
    except UserError:
        return set()
