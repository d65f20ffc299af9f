"""Find out which prompts of an evaluation a policy, or a model it comes from, was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harken.errors import UserError
from harken.models.resolve import ModelSource
from harken.records import Prompt
from harken.run import manifest, trained_prompts
from harken.run.folder import RunFolder

MAX_ANCESTOR_RUNS = 20
"""Maximum number of training runs to follow back from a model."""


def count_trained_prompts(
    models: Mapping[str, ModelSource], prompts: Sequence[Prompt]
) -> dict[str, dict[str, int]]:
    """Count, per model and training run behind it, the evaluation prompts that were in its training set.

    Runs are named by their folder. Models and runs without such a prompt are left out.
    """
    digests = [trained_prompts.digest(prompt.messages) for prompt in prompts]
    counts: dict[str, dict[str, int]] = {}
    for name, source in models.items():
        for run in training_runs(source):
            for folder in (run, RunFolder(run.root / "ptx")):
                trained_digests = trained_prompts.read_prompt_hashes(folder)
                if count := sum(digest in trained_digests for digest in digests):
                    counts.setdefault(name, {})[str(folder.root)] = count
    return counts


def trained_prompts_warning(counts: Mapping[str, Mapping[str, int]], total: int) -> str:
    """Describe the counts of `count_trained_prompts` in one sentence; "" without any."""
    parts = [
        f"{count} in {name}'s training ({Path(run).name})"
        for name, runs in counts.items()
        for run, count in runs.items()
    ]
    if not parts:
        return ""
    return (
        f"of {total} evaluation prompts {', '.join(parts)}: these results are contaminated. "
        "Fix: evaluate on other prompts"
    )


def training_runs(source: ModelSource) -> list[RunFolder]:
    """List the runs behind a model: those of its folders and, by their manifests, those they started from."""
    waiting = [link.folder.parent for link in source.chain()]
    runs: dict[Path, RunFolder] = {}
    while waiting and len(runs) < MAX_ANCESTOR_RUNS:
        root = waiting.pop().resolve()
        run = RunFolder(root)
        if root in runs or not run.manifest.exists():
            continue
        runs[root] = run
        try:
            lineage: Any = manifest.read_manifest(run.manifest).get("lineage")
        except UserError:
            continue  # other programs write files of this name too
        if isinstance(lineage, dict) and isinstance(lineage.get("folder"), str):
            waiting.append(Path(lineage["folder"]).parent)
    return sorted(runs.values(), key=lambda run: str(run.root))
