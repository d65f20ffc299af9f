"""Define the configuration of a pipeline: an ordered mapping of named stages."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from harken.config.base import Seed, Strict
from harken.config.run import WeightDtypeName
from harken.config.trackers import TrackerSettings


class PipelineConfig(Strict):
    """Named stages that run in order; each may use the outputs of earlier ones (docs/pipelines.md)."""

    name: str
    title: str = ""
    """Title of the report."""
    notice: str = ""
    """Printed, and shown in the report: for example that the data are synthetic."""
    model_name: str = "embedded"
    """The model of every stage that does not name one; `@model` in a stage."""
    output_dir: str | None = None
    seed: Seed = 839
    device: str = "auto"
    dtype: WeightDtypeName = "bfloat16"
    tensorboard: bool = True
    trackers: TrackerSettings = TrackerSettings()
    stages: dict[str, dict[str, Any]] = Field(min_length=1)
    """Name → `type` and the keys of that type (`config.stages`), or a group of stages with `repeat`."""


class ReportStage(Strict):
    """The report of a pipeline: one page and `results.json`. It has no settings, and is the last stage."""
