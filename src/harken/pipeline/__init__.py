"""Run a pipeline of named stages, and write its report."""

from harken.pipeline.page import report_pipeline
from harken.pipeline.run import run_pipeline

__all__ = ["report_pipeline", "run_pipeline"]
