"""Run all checks of every stage of a configuration in a temporary folder."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from harken.config import PipelineConfig, RunConfig
from harken.doctor.check import Check, StageChecks
from harken.doctor.context import Context
from harken.doctor.dpo_context import DPOContext
from harken.doctor.finding import CheckResult, Diagnosis
from harken.doctor.ppo_context import PPOContext
from harken.doctor.registry import CHECKS
from harken.doctor.stages import stages
from harken.run.terminal import progress


def diagnose(
    config: RunConfig | PipelineConfig, name: str = "", checks: Sequence[Check] = CHECKS
) -> Diagnosis:
    """Check every training stage. Temporary files are removed, and the configuration's own folder is only read.

    Errors that a check expects become its findings; other errors are raised.
    """
    start = time.perf_counter()
    findings: list[CheckResult] = []
    for stage in stages(config):
        if stage.rows_missing:
            findings.append(
                CheckResult(
                    stage.name, "rows", "note", f"not checked: {stage.rows_missing}", ROWS_WHY, "", 0.0
                )
            )
            continue
        run = stage.config
        with tempfile.TemporaryDirectory(prefix="harken-doctor-") as scratch:
            kind = CONTEXTS.get(run.training.type, Context)
            stage_checks = StageChecks(stage.name, kind(run, stage.output, Path(scratch), stage.info))
            applicable = [check for check in checks if run.training.type in check.kinds]
            findings += [stage_checks.run(check) for check in progress(applicable, f"doctor: {stage.name}")]
    return Diagnosis(name, tuple(findings), time.perf_counter() - start)


CONTEXTS: dict[str, type[Context]] = {"ppo": PPOContext, "dpo": DPOContext, "online_dpo": DPOContext}
"""Training types whose checks need more than rows and one model."""
ROWS_WHY = "The checks of a stage read its rows."
