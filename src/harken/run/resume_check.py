"""Check a resumed run for changes since it began: reject them, or accept and record them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harken.errors import UserError
from harken.run import manifest

ACCEPT = "--accept-changes of `harken train` or `harken pipeline`"
RESULTS_DEPEND_ON = ("harken", "harken_code", "torch", "transformers", "peft", "tokenizers", "numpy")
"""Manifest entries that can affect a run's results."""


class AcceptedChanges:
    """Collect the accepted differences of a resumed run in `accepted`, and reject others.

    `can_accept`: whether the command has --accept-changes; False for an evaluation and a finished run.
    """

    def __init__(self, accept: bool = False, *, can_accept: bool = True) -> None:
        self.accept, self.can_accept = accept and can_accept, can_accept
        self.accepted: list[str] = []

    def require_accepted(self, problem: str, differences: Sequence[str], *, where: Path, fix: str) -> None:
        """Raise UserError with the differences, unless there are none or they are accepted."""
        if differences and not self.accept:
            message = f"{problem}: {'; '.join(differences)}"
            alternative = f", or resume anyway with {ACCEPT}" if self.can_accept else ""
            raise UserError(message, where=str(where), fix=f"{fix}{alternative}")
        self.accepted += differences


def version_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return one line per version that differs between two manifests. Entries that only one has are ignored."""
    shared = [name for name in RESULTS_DEPEND_ON if name in before and name in now]
    return manifest.config_difference({n: before[n] for n in shared}, {n: now[n] for n in shared})
