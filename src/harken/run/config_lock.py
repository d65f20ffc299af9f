"""One folder, one configuration: the first run writes it, later ones must bring the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harken.config import yaml as config_yaml
from harken.errors import UserError
from harken.run import checksums, moved
from harken.run.atomic import write_text
from harken.run.manifest import config_difference
from harken.run.resume_check import AcceptedChanges

RESTORE = "restore the file, or choose another --output-dir"


def lock_config(
    path: Path, config: dict[str, Any], *made: Path, changes: AcceptedChanges | None = None
) -> bool:
    """Write the resolved configuration, or check it against the one that is there. True: something was made already.

    A configuration under which none of `made` came to be is replaced: a first try that failed on a mistyped
    path must not lock the folder. One whose differences `changes` lets through, or whose names moved with the folder,
    stays until `replace`. Raises UserError with the differences when something was made under another, and when the
    configuration that is there is damaged.
    """
    if path.exists() and any(result.exists() for result in made):
        (changes or AcceptedChanges(can_accept=False)).require_accepted(
            "this folder holds a run of another configuration",
            differences(path, config),
            where=path.parent,
            fix="choose another --output-dir, or restore the configuration",
        )
        return True
    path.parent.mkdir(parents=True, exist_ok=True)
    write_config(path, config)
    return False


def differences(path: Path, config: dict[str, Any]) -> list[str]:
    """What differs between the configuration a folder was claimed with and `config`, one line each.

    A name of a place in a project that was moved as a whole, the folder with it, is no difference (`run.moved`).
    """
    return config_difference(
        moved.translate_moved_paths(read_locked_config(path), config, path.parent), config
    )


def write_config(path: Path, config: dict[str, Any]) -> None:
    """Write the resolved configuration, whatever is there."""
    write_text(path, config_yaml.write(config))


def read_locked_config(path: Path) -> dict[str, Any]:
    """The configuration a folder was claimed with. Raises UserError when the file cannot be read as one."""
    try:
        return config_yaml.parse(checksums.read_verified_text(path), str(path)).data
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot be read as text ({error})", where=str(path), fix=RESTORE) from None
    except UserError as error:
        raise UserError(error.what, where=error.where, fix=RESTORE) from None
