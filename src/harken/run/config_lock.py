"""Lock a folder to one configuration: the first run writes it, later runs must match it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harken.config import yaml as config_yaml
from harken.errors import UserError
from harken.run import checksums, moved
from harken.run.atomic import write_text
from harken.run.manifest import config_difference
from harken.run.own_folder import require_own_folder
from harken.run.resume_check import AcceptedChanges

RESTORE = "restore the file, or choose another --output-dir"


def lock_config(
    path: Path,
    config: dict[str, Any],
    *results: Path,
    own: Iterable[Path] = (),
    changes: AcceptedChanges | None = None,
) -> bool:
    """Write the resolved configuration, or compare it with the existing one. Returns whether any of `results` exists.

    If none of `results` exists, the configuration is replaced: a first attempt that failed on a mistyped path must not
    lock the folder. Otherwise the existing one is kept until `write_config`, even if `changes` accepts its differences
    or its paths moved with the folder. Raises UserError with the differences if they are not accepted, if the
    existing configuration is damaged, and as `require_own_folder` does; `own` are further results of this command.
    """
    if is_locked(path, *results):
        (changes or AcceptedChanges(can_accept=False)).require_accepted(
            "this folder contains a run with another configuration",
            locked_config_differences(path, config),
            where=path.parent,
            fix="choose another --output-dir, or restore the configuration",
        )
        return True
    require_own_folder(path, (*results, *own))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_config(path, config)
    return False


def is_locked(path: Path, *results: Path) -> bool:
    """Return whether a configuration exists and any of `results`, so that it may not be replaced."""
    return path.exists() and any(result.exists() for result in results)


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
