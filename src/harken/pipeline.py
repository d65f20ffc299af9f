"""SFT → reward model → PPO → evaluation → report, each stage starting from the ones before it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from harken.config import EvaluationConfig, PipelineConfig, RunConfig, StageOverrides
from harken.errors import UserError
from harken.evaluate import audit, report_card, suite, verdict
from harken.evaluate.outcome import LATE_UPDATES, read_metrics
from harken.explorer.build import build_report
from harken.run import atomic, manifest, seals
from harken.run.claim import claim
from harken.run.folder import PipelineFolder, RunFolder
from harken.run.tables import read_rows
from harken.run.tracking import say
from harken.run.writer import writing
from harken.train.run import train

BASE, SFT, PPO = "Base", "SFT", "PPO"


def run(config: PipelineConfig, output: Path) -> PipelineFolder:
    """Every stage in order. With the same folder and configuration, go on where it stopped.

    Raises UserError when the folder holds another pipeline, another process writes it, or a stage cannot start.
    """
    with writing(output):
        return _run(config, PipelineFolder(output), output)


def _run(config: PipelineConfig, folder: PipelineFolder, output: Path) -> PipelineFolder:
    claim(folder.config, config.model_dump(mode="json", exclude={"output_dir"}), folder.sft.final)
    seals.unseal(output)  # the report is made again, and sealed with it
    if config.notice:
        say(config.notice)
    say("\n== 1/5 supervised fine-tuning")
    train(stage(config, config.sft, config.model_name), folder.sft.root)
    say("\n== 2/5 reward model")
    train(stage(config, config.reward, str(folder.sft.final)), folder.reward.root)
    say("\n== 3/5 PPO")
    train(ppo_stage(config, folder), folder.ppo.root)
    say("\n== 4/5 evaluation")
    suite.run(evaluation(config, folder), folder.evaluation.root)
    say("\n== 5/5 report")
    report(output)
    return folder


def stage(config: PipelineConfig, overrides: StageOverrides, model: str) -> RunConfig:
    """A stage's own run configuration: what the pipeline shares, what the stage says, the model it starts from."""
    shared = {key: getattr(config, key) for key in ("seed", "device", "dtype", "tensorboard")}
    return RunConfig.model_validate({**shared, **overrides.model_dump(), "model_name": model})


def ppo_stage(config: PipelineConfig, folder: PipelineFolder) -> RunConfig:
    """PPO from the supervised model, against the pipeline's reward model unless the stage names another."""
    training = dict(config.ppo.training)
    training.setdefault("reward_model", {"checkpoint_path": str(folder.reward.final)})
    return stage(config, config.ppo.model_copy(update={"training": training}), str(folder.sft.final))


def evaluation(config: PipelineConfig, folder: PipelineFolder) -> EvaluationConfig:
    """Base, SFT and PPO, scored by the pipeline's reward model."""
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


def report(root: Path) -> Path:
    """Write the page and `results.json` of a finished pipeline from its files, and print the verdict.

    Raises UserError when `root` holds no finished evaluation.
    """
    folder = PipelineFolder(root)
    if not folder.evaluation.summary.exists():
        raise UserError(
            "no finished evaluation is here",
            where=str(folder.evaluation.root),
            mend="run `harken pipeline` with this folder first: it goes on where it stopped",
        )
    config = PipelineConfig.model_validate(yaml.safe_load(seals.read_text(folder.config)))
    summary = json.loads(seals.read_text(folder.evaluation.summary))
    stages = {"sft": folder.sft, "reward": folder.reward, "ppo": folder.ppo}
    metrics = {name: read_metrics(run) for name, run in stages.items()}
    info = {name: _info(run) for name, run in stages.items()}
    rows = read_rows(folder.evaluation.responses)
    judge = next(iter(summary["judges"]), None)
    measured = [line["kl/mean"] for line in metrics["ppo"] if line.get("kl/mean") is not None]
    late = measured[-LATE_UPDATES:]
    kl = sum(late) / len(late)
    headline = verdict.headline(summary, BASE, SFT, PPO, judge, kl)
    accuracy: dict[str, Any] = next((m for m in reversed(metrics["reward"]) if "eval/accuracy" in m), {})
    results = report_card.results(
        summary,
        base=BASE,
        sft=SFT,
        ppo=PPO,
        judge=judge,
        kl_per_sequence=kl,
        rm_accuracy=accuracy.get("eval/accuracy"),
        rm_pairs=int(accuracy.get("eval/pairs", 0)),
        seconds={name: sum(line["seconds"] for line in lines) for name, lines in metrics.items()},
        headline=headline,
    )
    seals.unseal(root)  # all was read that could be damaged: now its files change
    atomic.write_json(folder.results, results | {"name": config.name, "notice": config.notice})
    build_report(
        folder.report,
        title=config.title or config.name,
        notice=config.notice,
        summary=summary,
        responses=rows,
        stage_metrics=metrics,
        stage_info=info,
        headline=headline,
        audited=audit.audit(rows, summary["baseline"]),
        flags=audit.MEANINGS,
    )
    seals.seal(root, [folder.config, folder.results, folder.report])
    print(report_card.tables(summary))
    print("\n".join(headline))
    print(f"\nfigures  {folder.results}\nreport   {folder.report}")
    return folder.report


def _info(run: RunFolder) -> dict[str, Any]:
    record = manifest.read(run.manifest)
    return {
        "config": yaml.safe_load(seals.read_text(run.config)),
        "data": json.loads(seals.read_text(run.data_report)),
        "lineage": record["lineage"],
        "roles": record["roles"],
        "versions": record.get("versions", {}),
    }
