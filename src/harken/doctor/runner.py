"""From a configuration to its diagnosis: every stage, every check, in a folder that is thrown away."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from harken.config import PipelineConfig, RunConfig, StageOverrides
from harken.doctor.check import Check, Examination
from harken.doctor.context import Around, Context
from harken.doctor.finding import CheckResult, Diagnosis
from harken.doctor.ppo_context import PPOContext
from harken.doctor.registry import CHECKS
from harken.run.folder import PipelineFolder
from harken.run.terminal import progress


def diagnose(
    config: RunConfig | PipelineConfig, name: str = "", checks: Sequence[Check] = CHECKS
) -> Diagnosis:
    """Examine every stage. Nothing of it is left on disk, and the configuration's own folder is only looked at.

    A fault that a check meets is one of its findings; errors of Harken itself are raised.
    """
    began = time.perf_counter()
    findings: list[CheckResult] = []
    for stage, run, output, around in stages(config):
        with tempfile.TemporaryDirectory(prefix="harken-doctor-") as scratch:
            kind = PPOContext if run.training.type == "ppo" else Context
            examination = Examination(stage, kind(run, output, Path(scratch), around))
            wanted = [check for check in checks if run.training.type in check.kinds]
            findings += [examination.make(check) for check in progress(wanted, f"doctor: {stage}")]
    return Diagnosis(name, tuple(findings), time.perf_counter() - began)


def stages(
    config: RunConfig | PipelineConfig,
) -> Iterator[tuple[str, RunConfig, Path, Around]]:
    """Each stage with its configuration, its folder and what stands around it.

    Of a pipeline, a stage starts from what the ones before it have made; where they have not run yet, the base
    model and an untrained reward head stand in.
    """
    if isinstance(config, RunConfig):
        yield config.training.type, config, Path(str(config.output_dir)), Around()
        return
    folder = PipelineFolder(Path(str(config.output_dir)))
    around = Around(answers=config.sft.data, tested=config.evaluation.data, tuned=True)
    yield "sft", _stage(config, config.sft, config.model_name), folder.sft.root, around
    tuned = str(folder.sft.final)
    if not folder.sft.final.exists():
        tuned, around = config.model_name, replace(around, untuned=f"{folder.sft.root} is not trained yet")
    yield "reward", _stage(config, config.reward, tuned), folder.reward.root, around
    around = replace(around, pairs=config.reward.data, judges=tuple(config.evaluation.judges))
    training = dict(config.ppo.training)
    if "reward_model" not in training:
        training["reward_model"] = {"checkpoint_path": str(folder.reward.final)}
        if not folder.reward.final.exists():
            training["reward_model"] = {"random_for_debugging": True}
            around = replace(around, unrewarded=f"{folder.reward.root} is not trained yet")
    ppo = config.ppo.model_copy(update={"training": training})
    yield "ppo", _stage(config, ppo, tuned), folder.ppo.root, around


def _stage(config: PipelineConfig, overrides: StageOverrides, model: str) -> RunConfig:
    shared = {key: getattr(config, key) for key in ("seed", "device", "dtype", "tensorboard")}
    return RunConfig.model_validate({**shared, **overrides.model_dump(), "model_name": model})
