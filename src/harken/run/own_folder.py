"""Refuse to write into a folder that holds results of another command, or a configuration written by hand."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from harken.config import yaml as config_yaml
from harken.errors import UserError
from harken.run import bounded_read

RESULTS = (
    "final", "checkpoints", "best", "shards", "responses.parquet", "summary.json", "probes.parquet",
    "sycophancy.json", "pairs.jsonl", "demonstrations.jsonl", "judgements.jsonl", "study.json", "sweep.json",
    "direction.json", "pipeline.yml",
)  # fmt: skip
"""Names in a folder by which it holds results of some command."""
PARTIAL_RESULTS = ("manifest.json", "metrics.jsonl", "status.json", "audit.json", "data_report.json")
"""Names that an attempt may have left which ended before it had a result."""


def require_own_folder(config: Path, own: Iterable[Path] = ()) -> None:
    """Raise UserError if the folder of `config` holds results or a configuration of another command.

    `own` are results that the calling command writes: with a configuration beside them they may be those of an attempt
    that was killed. Without the configuration nothing tells whose they are. A configuration counts as written by hand
    if its text is not the one that Harken writes for it.
    """
    folder = config.parent
    if config.exists():
        _require_written_here(config)
        require_no_results(folder, (config, *own))
        return
    if found := [name for name in (*RESULTS, *PARTIAL_RESULTS) if (folder / name).exists()]:
        raise UserError(
            f"contains {found[0]} but no {config.name}: another command wrote it, or {config.name} was deleted",
            where=str(folder),
            fix=f"choose another --output-dir, or restore {config.name}",
        )


def require_no_results(folder: Path, own: Iterable[Path] = ()) -> None:
    """Raise UserError if the folder holds results other than `own`."""
    own = set(own)
    if found := [name for name in RESULTS if (folder / name).exists() and folder / name not in own]:
        raise UserError(
            f"contains {found[0]}, the result of another command",
            where=str(folder),
            fix="choose another --output-dir",
        )


def _require_written_here(config: Path) -> None:
    try:
        text = bounded_read.read_text(config)
        written = config_yaml.write(config_yaml.parse_yaml(text, str(config)).data)
    except (OSError, UnicodeDecodeError, UserError):
        written, text = "", "not a configuration"
    if written != text:
        raise UserError(
            "is not a configuration that Harken wrote, and would be overwritten",
            where=str(config),
            fix="choose another --output-dir, or move the file elsewhere and name it by its new path",
        )
