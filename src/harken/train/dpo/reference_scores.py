"""Compute the reference's scores of all rows once, and keep them in the run folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from harken.run import atomic
from harken.run.tracking import say
from harken.train.dpo.examples import PreferenceExample

_KEY = "fingerprint"


def scores_fingerprint(examples: Sequence[PreferenceExample], *facts: str) -> str:
    """Hash everything that the scores depend on: the rows, and `facts` on the reference and the scoring."""
    digest = hashlib.sha256("\n".join(facts).encode())
    for example in examples:
        digest.update(repr(example.sides).encode())
    return digest.hexdigest()


def kept_scores(
    path: Path, fingerprint: str, rows: int, compute: Callable[[], Float[Tensor, "rows 2"]]
) -> Float[Tensor, "rows 2"]:
    """Return the scores stored in `path` if they are for these rows and this reference; else compute and keep them.

    A damaged file, or one from different rows, is replaced: the scores are a function of the run's inputs.
    """
    if path.exists():
        stored = _read(path, fingerprint, rows)
        if isinstance(stored, Tensor):
            return stored
        say(f"warning: {path.name} is not used ({stored}); the reference scores the rows again")
    scores = compute().contiguous()
    # One entry: safetensors writes several in an order that differs between processes.
    facts = {_KEY: f"{fingerprint} {_sha256(scores)}"}
    atomic.write_bytes(path, save({"scores": scores}, metadata=facts))
    return scores


def _read(path: Path, fingerprint: str, rows: int) -> Tensor | str:
    """Return the stored scores, or why they cannot be used."""
    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            recorded, _, sha256 = facts.get(_KEY, "").partition(" ")
            if recorded != fingerprint:
                return "it is from different rows, another reference or different settings"
            # Check the size first: a damaged header must not make a huge tensor.
            if list(file.keys()) != ["scores"] or file.get_slice("scores").get_shape() != [rows, 2]:
                return "it has another shape"
            scores: Tensor = file.get_tensor("scores")
    except (SafetensorError, OSError, ValueError) as error:
        return f"it cannot be read: {error}"
    if scores.dtype != torch.float32 or sha256 != _sha256(scores):
        return "its checksum does not match"
    return scores


def _sha256(scores: Tensor) -> str:
    return hashlib.sha256(scores.numpy().tobytes()).hexdigest()
