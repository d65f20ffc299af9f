"""Define every path of `harken eval --suite sycophancy`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harken.run.folder import ResponsesFolder


@dataclass(frozen=True)
class SycophancyFolder(ResponsesFolder):
    """Name the files of `harken eval --suite sycophancy`."""

    @property
    def responses(self) -> Path:
        """One row per policy and probe: conversation, targets, log odds, the response and what it states."""
        return self.root / "probes.parquet"

    @property
    def results(self) -> Path:
        """Rates with intervals, and differences between policies (JSON)."""
        return self.root / "sycophancy.json"

    def checksummed_files(self) -> list[Path]:
        """List the files of the finished folder."""
        return [*super().checksummed_files(), self.results]
