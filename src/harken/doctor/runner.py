"""Run all checks of every stage of a configuration in a temporary folder."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from harken.config import PipelineConfig, RunConfig, StageOverrides
from harken.doctor.check import Check, StageChecks
from harken.doctor.context import Context, PipelineInfo
from harken.doctor.finding import CheckResult, Diagnosis
from harken.doctor.ppo_context import PPOContext
from harken.doctor.registry import CHECKS
from harken.run.folder import PipelineFolder
from harken.run.terminal import progress


def diagnose(
    config: RunConfig | PipelineConfig, name: str = "", checks: Sequence[Check] = CHECKS
) -> Diagnosis:
    """Check every stage. Temporary files are removed, and the configuration's own folder is only read.

    Errors that a check expects become its findings; other errors are raised.
    """
    began = time.perf_counter()
    findings: list[CheckResult] = []
    for stage, run, output, pipeline in stages(config):
        with tempfile.TemporaryDirectory(prefix="harken-doctor-") as scratch:
            kind = PPOContext if run.training.type == "ppo" else Context
            stage_checks = StageChecks(stage, kind(run, output, Path(scratch), pipeline))
            wanted = [check for check in checks if run.training.type in check.kinds]
            findings += [stage_checks.run(check) for check in progress(wanted, f"doctor: {stage}")]
    return Diagnosis(name, tuple(findings), time.perf_counter() - began)


def stages(
    config: RunConfig | PipelineConfig,
) -> Iterator[tuple[str, RunConfig, Path, PipelineInfo]]:
    """Yield each stage with its configuration, its folder and what is known of the other stages.

    A stage of a pipeline starts from the results of earlier stages. If they have not run yet, the base
    model and an untrained reward head replace it.
    """
    if isinstance(config, RunConfig):
        yield config.training.type, config, Path(str(config.output_dir)), PipelineInfo()
        return
    folder = PipelineFolder(Path(str(config.output_dir)))
    pipeline = PipelineInfo(
        demonstrations=config.sft.data, evaluation_data=config.evaluation.data, sft_before=True
    )
    yield "sft", _stage(config, config.sft, config.model_name), folder.sft.root, pipeline
    tuned = str(folder.sft.final)
    if not folder.sft.final.exists():
        tuned, pipeline = (
            config.model_name,
            replace(pipeline, sft_missing=f"{folder.sft.root} is not trained yet"),
        )
    yield "reward", _stage(config, config.reward, tuned), folder.reward.root, pipeline
    pipeline = replace(pipeline, pairs=config.reward.data, judges=tuple(config.evaluation.judges))
    training = dict(config.ppo.training)
    if "reward_model" not in training:
        training["reward_model"] = {"checkpoint_path": str(folder.reward.final)}
        if not folder.reward.final.exists():
            training["reward_model"] = {"random_for_debugging": True}
            pipeline = replace(pipeline, reward_model_missing=f"{folder.reward.root} is not trained yet")
    ppo = config.ppo.model_copy(update={"training": training})
    yield "ppo", _stage(config, ppo, tuned), folder.ppo.root, pipeline


def _stage(config: PipelineConfig, overrides: StageOverrides, model: str) -> RunConfig:
    shared = {key: getattr(config, key) for key in ("seed", "device", "dtype", "tensorboard")}
    return RunConfig.model_validate({**shared, **overrides.run_settings(), "model_name": model})
