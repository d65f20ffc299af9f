"""Identify the responses of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Key = tuple[str, int, str]
"""Identify a response by (prompt_id, sample, policy)."""
ResponseRows = Sequence[Mapping[str, Any]]
"""Rows of `responses.parquet`."""
AuditedRows = Mapping[Key, dict[str, Any]]
"""Measures and flags of each response."""


def key_of(row: Mapping[str, Any]) -> Key:
    """Return the key of a row."""
    return row["prompt_id"], row["sample"], row["policy"]
