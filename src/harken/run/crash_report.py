"""Save the traceback of an unexpected exception for a bug report."""

from __future__ import annotations

import contextlib
import tempfile
import traceback
from pathlib import Path

from harken.run import manifest

FILE_NAME = "traceback.txt"
_FOLDER = "harken_folder"


def note_folder(error: BaseException, folder: Path) -> None:
    """Remember which folder was being written when `error` was raised. The first (innermost) folder is kept."""
    if not hasattr(error, _FOLDER):
        with contextlib.suppress(AttributeError):
            setattr(error, _FOLDER, folder)


def write_crash_report(error: BaseException) -> Path | None:
    """Write the traceback, without secrets, to the folder that was being written, or else to the temporary folder.

    Returns the file, or None if neither is writable.
    """
    lines = [f"{name} {version}\n" for name, version in manifest.versions().items()]
    text = "".join([*lines, "\n", *traceback.format_exception(error)])
    for folder in (getattr(error, _FOLDER, None), Path(tempfile.gettempdir())):
        if folder is not None:
            path = Path(folder) / (
                FILE_NAME if folder != Path(tempfile.gettempdir()) else f"harken-{FILE_NAME}"
            )
            with contextlib.suppress(OSError):
                path.write_text(str(manifest.redact(text)), encoding="utf-8", errors="backslashreplace")
                return path
    return None
