"""Run SFT → reward model → PPO → evaluation → report; each stage starts from the results of earlier ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harken.card.gate import apply_gate, failed_gate_warning
from harken.card.run_card import card_for_gate
from harken.config import EvaluationConfig, PipelineConfig, RunConfig, StageOverrides
from harken.config import files as config_files
from harken.errors import UserError
from harken.evaluate import audit, overoptimisation, suite, tables, trained_prompts, verdict
from harken.evaluate.run_summary import read_metrics
from harken.evaluate.summary import FIX, read_data_reports, read_responses, read_summary
from harken.explorer import accounts
from harken.explorer.build import build_report
from harken.run import atomic, checksums, json_io, manifest
from harken.run.config_lock import lock_config, read_locked_config, write_config
from harken.run.folder import EvaluationFolder, PipelineFolder, RunFolder
from harken.run.json_io import Schema, validate
from harken.run.lock import write_lock
from harken.run.resume_check import AcceptedChanges
from harken.run.terminal import show
from harken.run.tracking import say
from harken.train.launch import train

BASE, SFT, PPO = "Base", "SFT", "PPO"


def run_pipeline(config: PipelineConfig, output: Path, *, accept_changes: bool = False) -> PipelineFolder:
    """Run all stages in order. With the same folder and configuration, an interrupted pipeline resumes.

    Raises UserError if the folder contains another pipeline (unless `accept_changes`, for unfinished stages),
    another process is writing to it, or a stage cannot start.
    """
    with write_lock(output):
        return _run(config, PipelineFolder(output), output, accept_changes)


def _run(
    config: PipelineConfig, folder: PipelineFolder, output: Path, accept_changes: bool
) -> PipelineFolder:
    # The gate may change between two calls: it decides whether to go on, and changes no result.
    settings = config.model_dump(mode="json", exclude={"output_dir": True, "reward": {"gate"}})
    changes = AcceptedChanges(accept_changes)
    lock_config(folder.config, settings, folder.sft.final, changes=changes)
    checksums.remove_checksums(output)  # the report is built again, with new checksums
    if read_locked_config(folder.config) != settings:  # each stage records the accepted changes
        write_config(folder.config, settings)
    if config.notice:
        say(config.notice)
    say("\n== 1/5 supervised fine-tuning")
    sft = stage(config, config.sft, config.model_name)
    train(sft, folder.sft.root, accept_changes=accept_changes)
    say("\n== 2/5 reward model")
    reward = stage(config, config.reward, str(folder.sft.final))
    train(reward, folder.reward.root, accept_changes=accept_changes)
    if config.reward.gate is not None and not folder.ppo.final.exists():
        card, files = card_for_gate(folder.reward, config.reward.gate)
        apply_gate(card, config.reward.gate, files.gate, accept=accept_changes)
    say("\n== 3/5 PPO")
    train(ppo_stage(config, folder), folder.ppo.root, accept_changes=accept_changes)
    say("\n== 4/5 evaluation")
    suite.run_evaluation(evaluation(config, folder), folder.evaluation.root)
    say("\n== 5/5 report")
    report_pipeline(output)
    return folder


def stage(config: PipelineConfig, overrides: StageOverrides, model: str) -> RunConfig:
    """Build a stage's run configuration from the pipeline's shared settings, the stage's own, and the model."""
    shared = {key: getattr(config, key) for key in ("seed", "device", "dtype", "tensorboard")}
    return RunConfig.model_validate({**shared, **overrides.run_settings(), "model_name": model})


def ppo_stage(config: PipelineConfig, folder: PipelineFolder) -> RunConfig:
    """Build the PPO configuration: SFT model, and the pipeline's reward model unless the stage names another."""
    training = dict(config.ppo.training)
    training.setdefault("reward_model", {"checkpoint_path": str(folder.reward.final)})
    return stage(config, config.ppo.model_copy(update={"training": training}), str(folder.sft.final))


def evaluation(config: PipelineConfig, folder: PipelineFolder) -> EvaluationConfig:
    """Build the evaluation of base, SFT and PPO with the pipeline's reward model."""
    return EvaluationConfig.model_validate(
        {
            "policies": {
                BASE: config.model_name,
                SFT: str(folder.sft.final),
                PPO: str(folder.ppo.final),
            },
            "reward_model": str(folder.reward.final),
            "seed": config.seed,
            "device": config.device,
            "dtype": config.dtype,
            **config.evaluation.model_dump(),
        }
    )


def report_pipeline(root: Path) -> Path:
    """Write the page and `results.json` of a finished pipeline from its files, and print the verdict.

    Raises UserError if `root` has no finished evaluation.
    """
    folder = PipelineFolder(root)
    if not folder.evaluation.summary.exists():
        raise UserError(
            "no finished evaluation",
            where=str(folder.evaluation.root),
            fix="run the same `harken pipeline` with this folder again to resume it",
        )
    config = config_files.validate_settings(
        PipelineConfig, read_locked_config(folder.config), str(folder.config)
    )
    summary = read_summary(folder.evaluation.summary)
    if missing := [name for name in (BASE, SFT, PPO) if name not in summary["policies"]]:
        raise UserError(
            f"it compares {', '.join(summary['policies'])}, but not {missing[0]}",
            where=str(folder.evaluation.summary),
            fix=FIX,
        )
    stages = {"sft": folder.sft, "reward": folder.reward, "ppo": folder.ppo}
    metrics = {name: read_metrics(run) for name, run in stages.items()}
    info = {name: run_facts(run) for name, run in stages.items()}
    rows = read_responses(folder.evaluation.responses, summary)
    judge = next(iter(summary["judges"]), None)
    headline = verdict.headline(summary, BASE, SFT, PPO, judge, verdict.late_kl(metrics["ppo"]))
    headline += over_optimisation(folder.ppo, metrics["ppo"], info["ppo"])
    roles = {"base": BASE, "sft": SFT, "ppo": PPO}
    results = tables.results(summary, roles=roles, metrics=metrics, judge=judge, headline=headline)
    checksums.remove_checksums(root)  # everything has been read and verified; the files change from here on
    leak = trained_prompts.trained_prompts_warning(summary.get("trained_on", {}), summary["prompts"])
    parts = [config.notice, f"Warning: {leak}." if leak else "", failed_gate_warning(folder.reward)]
    notice = " ".join(part for part in parts if part)
    atomic.write_json(
        folder.results,
        results | {"name": config.name, "notice": notice, "trained_on": summary.get("trained_on", {})},
    )
    build_report(
        folder.report,
        title=config.title or config.name,
        notice=" ".join([notice, *frozen_weight_warnings(stages)]).strip(),
        summary=summary,
        responses=rows,
        stage_metrics=metrics,
        stage_info=info,
        headline=headline,
        audited=audit.audit(rows, summary["baseline"], config.evaluation.audit),
        flags=audit.FLAG_MEANINGS,
        accounts=page_accounts(folder.reward, folder.evaluation),
    )
    checksums.write_checksums(root, [folder.config, folder.results, folder.report])
    show(tables.tables(summary))
    show("\n".join(headline))
    show(f"\nfigures  {folder.results}\nreport   {folder.report}")
    return folder.report


def frozen_weight_warnings(stages: Mapping[str, RunFolder]) -> list[str]:
    """Return a warning for each stage whose frozen weights changed."""
    moved = {name: manifest.changed_frozen_components(run) for name, run in stages.items()}
    return [
        f"Warning: frozen weights ({', '.join(names)}) changed during the {name} stage: its figures are not reliable."
        for name, names in moved.items()
        if names
    ]


def page_accounts(reward: RunFolder | None, evaluation: EvaluationFolder | None) -> Sequence[dict[str, Any]]:
    """Return the page's sections on the reward model's card and the audit, as far as their files exist."""
    card = reward.card.markdown if reward else None
    found = evaluation.audit if evaluation else None
    return accounts.accounts(
        checksums.read_verified_text(card) if card and card.is_file() else None,
        json_io.read_object(found) if found and found.is_file() else None,
    )


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
    }


class _Training(Schema):
    type: str


class _Configuration(Schema):
    training: _Training


def _config(run: RunFolder) -> dict[str, Any]:
    config = read_locked_config(run.config)
    validate(config, _Configuration, str(run.config), FIX)
    return config
