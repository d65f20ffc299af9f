"""What is different from how a run began: refused with its difference, or accepted for once and written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harken.errors import UserError
from harken.run import manifest

ACCEPT = "--accept-changes of `harken train` or `harken pipeline`"
RESULTS_DEPEND_ON = ("harken", "harken_code", "torch", "transformers", "peft", "tokenizers", "numpy")
"""Entries of a manifest whose change may change a run's numbers."""


class AcceptedChanges:
    """Meets every difference of a run that goes on. `accepted` holds what was let through.

    `offered`: whether there is a command that accepts; of an evaluation and a finished run there is none.
    """

    def __init__(self, accept: bool = False, *, can_accept: bool = True) -> None:
        self.accept, self.can_accept = accept and can_accept, can_accept
        self.accepted: list[str] = []

    def require_accepted(self, problem: str, differences: Sequence[str], *, where: Path, fix: str) -> None:
        """Raises UserError with the differences, unless there are none or they are accepted."""
        if differences and not self.accept:
            what = f"{problem}: {'; '.join(differences)}"
            way = f", or go on all the same with {ACCEPT}" if self.can_accept else ""
            raise UserError(what, where=str(where), fix=f"{fix}{way}")
        self.accepted += differences


def of_versions(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One line for each version that differs between two manifests. What one of them does not say is no difference."""
    both = [name for name in RESULTS_DEPEND_ON if name in before and name in now]
    return manifest.config_difference({n: before[n] for n in both}, {n: now[n] for n in both})
