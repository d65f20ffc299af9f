"""Recognise paths in a recorded configuration after the whole project was moved.

A configuration names models and data by absolute paths or relative to the working directory. If a folder that contains
both the run and those files is moved, their paths change, but their location within that folder does not.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def translate_moved_paths(recorded: Any, config: Any, folder: Path) -> Any:
    """Return `recorded` with each moved path replaced by the path in `config` (see `is_same_place`).

    `folder` contains the recorded run.
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
    """Return whether `new` is the file that `old` named before it and the run in `folder` were moved together.

    True if `new` exists, `old` is missing or the same file, and `old` ends with the path of `new` relative to the
    closest folder that contains both `new` and the run. Fingerprints verify the contents elsewhere.
    """
    (old, old_function), (new, new_function) = _split(old), _split(new)
    if old == new or old_function != new_function:
        return old == new and old_function == new_function
    new_path, old_path = os.path.expanduser(new), os.path.expanduser(old)
    if not new or not old or not os.path.exists(new_path):
        return False
    if os.path.exists(old_path):
        return os.path.samefile(new_path, old_path)
    return any(
        _same_relative_path(old_path, absolute(new_path), absolute(folder))
        for absolute in (_abspath, os.path.realpath)
    )


def _same_relative_path(old: str, new: str, folder: str) -> bool:
    root = os.path.commonpath([new, folder])
    relative = Path(new).relative_to(root).parts
    return root != os.path.sep and bool(relative) and Path(old).parts[-len(relative) :] == relative


def _abspath(path: str | Path) -> str:
    return os.path.abspath(path)


def _split(name: str) -> tuple[str, str]:
    """Split `file.py:function` into file and function; any other name gets an empty function."""
    file, colon, function = name.rpartition(":")
    return (file, function) if colon and file.endswith(".py") else (name, "")
