"""Read which stages a pipeline's folder has, from the configuration that it records."""

from __future__ import annotations

from pathlib import Path

from harken.config import PipelineConfig
from harken.config import files as config_files
from harken.config.stages import PipelineStage, resolve_stages
from harken.run.config_lock import read_locked_config
from harken.run.folder import PipelineFolder


def read_pipeline(root: Path) -> tuple[PipelineConfig, list[PipelineStage]]:
    """Return the recorded configuration of the pipeline in `root`, and its stages with their folders there.

    Raises UserError if the file is missing, damaged or not a pipeline's.
    """
    path = PipelineFolder(root).config
    config = config_files.recorded_pipeline(read_locked_config(path), str(path))
    return config, resolve_stages(config, root)
