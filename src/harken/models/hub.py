"""Download a model's safetensors, settings and tokenizer from the hub."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from harken.errors import UserError, describe_exception

ALLOW_PATTERNS = ["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja"]
"""Safetensors weights, settings, and every tokenizer format."""
IGNORE_PATTERNS = ["*/*", "consolidated*"]
"""Sub-folders, and copies of the weights in a publisher's own format."""


def hub_folder(name: str) -> Path:
    """Download `org/name`, or use the hub's cache when offline.

    Raises UserError when it is not there, may not be read, or cannot be reached.
    """
    try:
        return Path(snapshot_download(name, allow_patterns=ALLOW_PATTERNS, ignore_patterns=IGNORE_PATTERNS))
    except Exception as error:
        problem, fix = _reason(error)
        raise UserError(problem, where=name, fix=fix) from error


def _reason(error: Exception) -> tuple[str, str]:
    """Return the problem and its fix. GatedRepoError is a RepositoryNotFoundError, so it is tested first."""
    description = describe_exception(error)
    if isinstance(error, GatedRepoError):
        return "this model is gated", "accept its terms on the hub, then `hf auth login`"
    if isinstance(error, RepositoryNotFoundError):
        return "the hub has no such model, or it is private", "check the name, or `hf auth login`"
    if isinstance(error, HFValidationError):
        return f"is not a hub name ({description})", "hub names look like org/name"
    if isinstance(error, LocalEntryNotFoundError):
        fix = "connect once (HF_HUB_OFFLINE unset), name a folder on disk, or take `embedded`"
        return "the hub cannot be reached, and this model is not in its cache", fix
    return f"the download failed ({description})", "run it again: the download resumes"
