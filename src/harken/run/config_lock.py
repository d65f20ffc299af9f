"""Lock a folder to one configuration: the first run writes it, later runs must match it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harken.config import yaml as config_yaml
from harken.errors import UserError
from harken.run import checksums, moved
from harken.run.atomic import write_text
from harken.run.folder import RunFolder
from harken.run.manifest import config_difference
from harken.run.resume_check import AcceptedChanges

RESTORE = "restore the file, or choose another --output-dir"
_SOMETIMES = {"template_time"}
"""Keys that a configuration has only where a chat template reads the clock."""


def lock_config(
    path: Path, config: dict[str, Any], *results: Path, changes: AcceptedChanges | None = None
) -> bool:
    """Write the resolved configuration, or compare it with the existing one. Returns whether any of `results` exists.

    If none of `results` exists, the configuration is replaced: a first attempt that failed on a mistyped path must not
    lock the folder. Otherwise the existing one is kept until `write_config`, even if `changes` accepts its differences
    or its paths moved with the folder. Raises UserError with the differences if they are not accepted, if the
    existing configuration is damaged, and if the folder holds files that this command did not write: a configuration
    with other keys, or results or a manifest without a configuration.
    """
    if path.exists() and any(result.exists() for result in results):
        (changes or AcceptedChanges(can_accept=False)).require_accepted(
            "this folder contains a run with another configuration",
            locked_config_differences(path, config),
            where=path.parent,
            fix="choose another --output-dir, or restore the configuration",
        )
        return True
    _require_own_folder(path, config, results)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_config(path, config)
    return False


def _require_own_folder(path: Path, config: dict[str, Any], results: Sequence[Path]) -> None:
    """Raise UserError for files that would be overwritten and are not those of a first attempt of this command."""
    if not path.exists():
        found = [result.name for result in (*results, RunFolder(path.parent).manifest) if result.exists()]
        if found:
            raise UserError(
                f"this folder has {found[0]} but no {path.name}, so another program or command wrote it",
                where=str(path.parent),
                fix=f"choose another --output-dir, or restore {path.name}",
            )
    elif not read_locked_config(path).keys() ^ config.keys() <= _SOMETIMES:
        raise UserError(
            "was written by hand or by another command, and would be overwritten",
            where=str(path),
            fix="choose another --output-dir, or move the file away",
        )


def locked_config_differences(path: Path, config: dict[str, Any]) -> list[str]:
    """List the differences between the folder's configuration and `config`, one line each.

    A path that changed because the whole project was moved does not count (`run.moved`).
    """
    return config_difference(
        moved.translate_moved_paths(read_locked_config(path), config, path.parent), config
    )


def write_config(path: Path, config: dict[str, Any]) -> None:
    """Write the resolved configuration, replacing any existing one."""
    write_text(path, config_yaml.write(config))


def read_locked_config(path: Path) -> dict[str, Any]:
    """Read the configuration that a folder is locked to. Raises UserError if the file cannot be read."""
    try:
        return config_yaml.parse_yaml(checksums.read_verified_text(path), str(path)).data
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot be read as text ({error})", where=str(path), fix=RESTORE) from None
    except UserError as error:
        raise UserError(error.what, where=error.where, fix=RESTORE) from None
