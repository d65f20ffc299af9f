"""Run the stages of a pipeline in order; each starts from the outputs of earlier ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harken.card.gate import apply_gate
from harken.card.run_card import card_for_gate
from harken.config import (
    EvaluationConfig,
    GenerationConfig,
    HardNegativesConfig,
    PairsConfig,
    PipelineConfig,
    ReviewConfig,
    RunConfig,
    ScoringConfig,
    Strict,
)
from harken.config.constitution import ConstitutionConfig
from harken.config.labelling import LabelConfig
from harken.config.pipeline import ReportStage
from harken.config.stage_types import STAGE_TYPES
from harken.config.stages import PipelineStage, find_stage, resolve_stages
from harken.evaluation import suite
from harken.generation.constitution import run_constitution
from harken.generation.generate import run_generate
from harken.generation.label import run_label
from harken.generation.pairs import run_pairs
from harken.generation.score import run_score
from harken.pipeline.page import report_pipeline
from harken.review.hard_negatives import run_hard_negatives
from harken.review.stage import run_review_stage
from harken.run import checksums
from harken.run.config_lock import lock_config, read_locked_config, write_config
from harken.run.folder import PipelineFolder, RunFolder
from harken.run.lock import write_lock
from harken.run.resume_check import AcceptedChanges
from harken.run.tracking import say
from harken.train.launch import train

StageRunner = Callable[[PipelineStage, bool], object]
"""Runs a stage in its folder, or resumes it; the flag is --accept-changes."""


def _train(stage: PipelineStage, accept_changes: bool) -> None:
    assert isinstance(stage.config, RunConfig)
    train(stage.config, stage.root, accept_changes=accept_changes)


def _evaluate(stage: PipelineStage, accept_changes: bool) -> None:
    assert isinstance(stage.config, EvaluationConfig)
    suite.run_evaluation(stage.config, stage.root)


def _generate(stage: PipelineStage, accept_changes: bool) -> None:
    assert isinstance(stage.config, GenerationConfig)
    run_generate(stage.config, stage.root)


def _score(stage: PipelineStage, accept_changes: bool) -> None:
    assert isinstance(stage.config, ScoringConfig)
    run_score(stage.config, stage.root)


def _pairs(stage: PipelineStage, accept_changes: bool) -> None:
    assert isinstance(stage.config, PairsConfig)
    run_pairs(stage.config, stage.root)


def _label(stage: PipelineStage, accept_changes: bool) -> None:
    assert isinstance(stage.config, LabelConfig)
    run_label(stage.config, stage.root)


def _constitution(stage: PipelineStage, accept_changes: bool) -> None:
    assert isinstance(stage.config, ConstitutionConfig)
    run_constitution(stage.config, stage.root)


def _review(stage: PipelineStage, accept_changes: bool) -> None:
    assert isinstance(stage.config, ReviewConfig)
    run_review_stage(stage.config, stage.root)


def _hard_negatives(stage: PipelineStage, accept_changes: bool) -> None:
    assert isinstance(stage.config, HardNegativesConfig)
    run_hard_negatives(stage.config, stage.root)


def _report(stage: PipelineStage, accept_changes: bool) -> None:
    report_pipeline(stage.root.parent)


RUNNERS: dict[type[Strict], StageRunner] = {
    RunConfig: _train,
    EvaluationConfig: _evaluate,
    GenerationConfig: _generate,
    ScoringConfig: _score,
    PairsConfig: _pairs,
    LabelConfig: _label,
    ConstitutionConfig: _constitution,
    ReviewConfig: _review,
    HardNegativesConfig: _hard_negatives,
    ReportStage: _report,
}
"""By the configuration of the stage's type (`config.stage_types`)."""


def run_pipeline(config: PipelineConfig, output: Path, *, accept_changes: bool = False) -> PipelineFolder:
    """Run all stages in order. With the same folder and configuration, an interrupted pipeline resumes.

    Raises UserError if the folder contains another pipeline (unless `accept_changes`, for unfinished stages),
    another process is writing to it, or a stage cannot start; RunFailed if a reward model fails its gate.
    """
    with write_lock(output):
        folder = PipelineFolder(output)
        stages = resolve_stages(config, output)
        _lock(folder, config, stages, AcceptedChanges(accept_changes))
        if config.notice:
            say(config.notice)
        for stage in stages:
            title = STAGE_TYPES[stage.type].title
            say(f"\n== {stage.number}/{len(stages)} {stage.name}: {title}")
            _require_gates(stage, stages, accept_changes)
            RUNNERS[STAGE_TYPES[stage.type].config](stage, accept_changes)
        if stages[-1].type != "report":
            checksums.write_checksums(output, [folder.config])
        return folder


def _lock(
    folder: PipelineFolder, config: PipelineConfig, stages: Sequence[PipelineStage], changes: AcceptedChanges
) -> None:
    """Lock the folder to the configuration, and the order of its stages, once the first stage is finished."""
    settings = locked_settings(config)
    if folder.config.exists() and stages[0].finished:
        changes.require_accepted(
            "this folder contains a pipeline whose stages are in another order",
            order_differences(read_locked_config(folder.config), settings),
            where=folder.root,
            fix="choose another --output-dir, or restore the order",
        )
    # A folder without pipeline.yml may hold stages that were trained alone; each of them has a lock of its own.
    results = [stages[0].output] if folder.config.exists() else []
    lock_config(folder.config, settings, *results, changes=changes)
    checksums.remove_checksums(folder.root)  # the report is built again, with new checksums
    if read_locked_config(folder.config) != settings:  # each stage records the accepted changes
        write_config(folder.config, settings)


def locked_settings(config: PipelineConfig) -> dict[str, Any]:
    """Return the configuration that a folder is locked to: without its folder and without gates.

    A gate may change between two calls: it decides whether to go on, and changes no result.
    """
    settings = config.model_dump(mode="json", exclude={"output_dir"})
    return {**settings, "stages": _without_gates(settings["stages"])}


def _without_gates(stages: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for name, keys in stages.items():
        if "repeat" in keys:
            found[name] = {**keys, "stages": _without_gates(keys["stages"])}
        else:
            found[name] = {key: value for key, value in keys.items() if key != "gate"}
    return found


def order_differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return one line if the stages that both configurations have stand in another order, else []."""
    orders = [_names(one.get("stages")) for one in (before, now)]
    shared = [
        [name for name in order if name in other] for order, other in zip(orders, orders[::-1], strict=True)
    ]
    return [] if shared[0] == shared[1] else [f"order: {', '.join(shared[0])} → {', '.join(shared[1])}"]


def _names(stages: object) -> list[str]:
    found = []
    for name, keys in stages.items() if isinstance(stages, dict) else ():
        inner = keys.get("stages") if isinstance(keys, dict) else None
        found += [name, *(f"{name}.{one}" for one in _names(inner))]
    return found


def _require_gates(stage: PipelineStage, stages: Sequence[PipelineStage], accept: bool) -> None:
    """Require every reward model that a stage uses to pass its gate, until the first such stage is finished."""
    for name in stage.uses:
        source = find_stage(stages, name)
        if source.gate is None or any(one.finished for one in stages if name in one.uses):
            continue
        card, files = card_for_gate(RunFolder(source.root), source.gate)
        apply_gate(card, source.gate, files.gate, accept=accept, key=f"{source.key}.gate", waiting=stage.name)
