"""Define every path of `harken eval --suite sycophancy`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SycophancyFolder:
    """Name the files of `harken eval --suite sycophancy`."""

    root: Path

    @property
    def config(self) -> Path:
        """The resolved configuration, with the fingerprints of all inputs (YAML)."""
        return self.root / "config.yml"

    @property
    def manifest(self) -> Path:
        """Versions, lineage and counts (JSON); written when the results are complete."""
        return self.root / "manifest.json"

    @property
    def shards(self) -> Path:
        """Finished shards of unfinished work (`run.shards`); deleted when it is finished."""
        return self.root / "shards"

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
        return [self.config, self.manifest, self.responses, self.results]
