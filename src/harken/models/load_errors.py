"""Calls into the code of others that reads and writes a model's files: what it raises becomes one line."""

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
    """Write a model with other libraries inside. A fault of the disk is an OSError, any other a UserError."""
    try:
        with disk_errors(folder):
            yield
    except (OSError, UserError):
        raise
    except BaseException as error:
        if not is_third_party_error(error):
            raise
        fix = "the same command goes on from the last checkpoint; harken doctor checks the model and its tokenizer"
        raise UserError(
            f"the model cannot be written ({describe_exception(error)})", where=str(folder), fix=fix
        ) from error
