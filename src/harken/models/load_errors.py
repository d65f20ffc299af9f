"""Translate errors of other libraries that read and write model files into UserError."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harken.errors import UserError, describe_exception, is_third_party_error
from harken.errors import third_party_errors as load_errors
from harken.run.checkpoint import disk_errors

__all__ = ["load_errors", "save_errors"]


@contextmanager
def save_errors(folder: Path) -> Iterator[None]:
    """Write a model with other libraries inside. Disk errors stay OSError; any other becomes a UserError."""
    try:
        with disk_errors(folder):
            yield
    except (OSError, UserError):
        raise
    except BaseException as error:
        if not is_third_party_error(error):
            raise
        fix = "run the same command again to resume; harken doctor checks the model and its tokenizer"
        raise UserError(
            f"the model cannot be written ({describe_exception(error)})", where=str(folder), fix=fix
        ) from error
