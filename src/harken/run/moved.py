"""Names of files and folders in a recorded configuration that mean the same place after a project was moved.

A configuration says where a model or rows lie, from the working directory or from the root. When the folder that holds
a run and what it names is moved as a whole, every such name is another, and the place within that folder is the same.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def translate_moved_paths(recorded: Any, config: Any, folder: Path) -> Any:
    """Return `recorded`, with the name that `config` gives where both name the same place (see `is_same_place`).

    `folder` holds the run that was recorded.
    """
    if isinstance(recorded, Mapping) and isinstance(config, Mapping):
        return {
            key: translate_moved_paths(value, config[key], folder) if key in config else value
            for key, value in recorded.items()
        }
    if isinstance(recorded, list) and isinstance(config, list) and len(recorded) == len(config):
        return [translate_moved_paths(old, new, folder) for old, new in zip(recorded, config, strict=True)]
    if isinstance(recorded, str) and isinstance(config, str) and is_same_place(recorded, config, folder):
        return config
    return recorded


def is_same_place(old: str, new: str, folder: Path) -> bool:
    """Whether `new` names what `old` named before the run in `folder` was moved together with it.

    That is: `new` is there; `old` is gone, or the same file; and the path to `new` within the closest folder that
    holds both it and the run is how `old` ends. What is in it is for fingerprints to tell.
    """
    (old, old_function), (new, new_function) = _split(old), _split(new)
    if old == new or old_function != new_function:
        return old == new and old_function == new_function
    here, there = os.path.expanduser(new), os.path.expanduser(old)
    if not new or not old or not os.path.exists(here):
        return False
    if os.path.exists(there):
        return os.path.samefile(here, there)
    return any(
        _ends_alike(there, absolute(here), absolute(folder)) for absolute in (_abspath, os.path.realpath)
    )


def _ends_alike(old: str, new: str, folder: str) -> bool:
    root = os.path.commonpath([new, folder])
    within = Path(new).relative_to(root).parts
    return root != os.path.sep and bool(within) and Path(old).parts[-len(within) :] == within


def _abspath(path: str | Path) -> str:
    return os.path.abspath(path)


def _split(name: str) -> tuple[str, str]:
    """The file and the function of `file.py:function`; of any other name, itself and nothing."""
    file, colon, function = name.rpartition(":")
    return (file, function) if colon and file.endswith(".py") else (name, "")
