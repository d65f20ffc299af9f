"""Collect what the page says of a training run: its facts, how far it is, over-optimisation, changed weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harken.card.write import ROWS, read_card_file, read_card_rows
from harken.evaluation import overoptimisation
from harken.evaluation.summary import FIX, read_data_reports
from harken.run import manifest
from harken.run.config_lock import read_locked_config
from harken.run.folder import RunFolder
from harken.run.json_io import Schema, validate
from harken.run.status import read_status


def frozen_weight_warnings(stages: Mapping[str, RunFolder]) -> list[str]:
    """Return a warning for each stage whose frozen weights changed."""
    moved = {name: manifest.changed_frozen_components(run) for name, run in stages.items()}
    return [
        f"Warning: frozen weights ({', '.join(names)}) changed during the {name} stage: its figures are not reliable."
        for name, names in moved.items()
        if names
    ]


def over_optimisation(
    run: RunFolder, metrics: Sequence[Mapping[str, Any]], info: dict[str, Any]
) -> list[str]:
    """Add the charts of reward and judges against KL to a PPO run's facts, and return what they say in sentences."""
    points = overoptimisation.checkpoint_points(metrics)
    curve = overoptimisation.read_best_of_n(run.best_of_n / "curve.json")
    info["charts"] = overoptimisation.charts(points, curve)
    return overoptimisation.sentences(points, curve)


def run_facts(run: RunFolder) -> dict[str, Any]:
    """Collect the facts of a run for the page: configuration, data, lineage, role table and versions.

    Raises UserError if a file is missing or damaged.
    """
    record = manifest.read_manifest(run.manifest)
    manifest.read_lineage(run.manifest)
    return {
        "config": _config(run),
        "data": read_data_reports(run.data_report),
        "lineage": record["lineage"],
        "roles": record.get("roles", []),
        "versions": manifest.recorded_versions(record),
        "status": read_status(run),
        "run": str(run.root),
        **(
            {"card": read_card_file(run.card) | {ROWS: read_card_rows(run.card)}}
            if run.card.card.is_file()
            else {}
        ),
    }


class _Training(Schema):
    type: str


class _Configuration(Schema):
    training: _Training


def _config(run: RunFolder) -> dict[str, Any]:
    config = read_locked_config(run.config)
    validate(config, _Configuration, str(run.config), FIX)
    return config


def missing_metrics_warning(
    title: str, status: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]]
) -> str | None:
    """Return a warning where a run did more steps than its metrics have: findings of the last ones may be missing."""
    done, logged = _steps_done(status), int(metrics[-1]["step"]) if metrics else 0
    if done <= logged:
        return None
    missing = f"ends at step {logged}" if logged else "has no steps"
    return (
        f"Warning: {title} did {done} steps, but its metrics.jsonl {missing}: its curves, its last held-out evaluation "
        "and what the health monitor finds are incomplete. Fix: restore the file."
    )


def _steps_done(status: Mapping[str, Any]) -> int:
    return int(status.get("completed", 0)) + int(status.get("skipped", 0))


def state_sentence(title: str, status: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]]) -> str:
    """Say how far a run is: a note for one that ended by itself, a warning for one that is not finished or failed."""
    done, of = status.get("completed", len(metrics)), status.get("requested")
    steps = f"{done} steps" if of is None else f"{done} of {of} steps"
    reason = status.get("stopped_because") or ""
    state = status.get("state", "unknown")
    if state == "completed":
        return f"Note: {title} is finished: {steps}."
    if state == "failed":
        return f"Warning: {title} failed after {steps}: {reason.removeprefix('failed: ')}"
    if state == "stopped" and not reason.startswith("interrupted"):
        return f"Note: {title} stopped early after {steps}: {reason}."
    return (
        f"Warning: {title} is not finished: {steps} are saved"
        + (f", {reason}" if reason else "")
        + f", and the page shows the {len(metrics)} that were logged."
    )
