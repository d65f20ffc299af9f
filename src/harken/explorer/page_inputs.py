"""Define the inputs of a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harken.explorer.page_examples import Audited, Rows


@dataclass(frozen=True, kw_only=True)
class PageInputs:
    """Rows, figures and facts of a page, in the format of the files of runs and evaluations."""

    title: str
    notice: str
    """Warnings shown above everything else; "" for none."""
    summary: Mapping[str, Any] | None
    """The result of `compare.compare`; None for a page without a comparison."""
    responses: Rows
    """The rows of `responses.parquet` that `summary` came from."""
    stage_metrics: Mapping[str, Rows]
    """The lines of metrics.jsonl by stage."""
    stage_info: Mapping[str, Mapping[str, Any]]
    """Facts by stage, all keys optional: "title", "config" (its training.type selects the charts, else the stage's name
    does), "data" (data reports), "charts" (further charts as page data), "lineage", "roles", "card" (card.json),
    "status" (status.json), "run" (the folder), and any others."""
    headline: Sequence[str]
    """The sentences of the verdict."""
    audited: Audited = field(default_factory=dict)
    """The result of `audit.audit` for the same rows; without it responses have no flags."""
    flags: Mapping[str, str] = field(default_factory=dict)
    """The meaning of each flag (`audit.FLAG_MEANINGS`)."""
    sections: Sequence[Mapping[str, Any]] = ()
    """Further sections of text and tables (`text_sections.text_sections`)."""
    queues: Mapping[str, str] = field(default_factory=dict)
    """Flags that are lists to read."""
    numbers: Sequence[Mapping[str, Any]] = ()
    """At most three numbers that open the page."""
    made: Mapping[str, Any] = field(default_factory=dict)
    """Date, hardware, duration, version and settings (docs/page_data.md)."""
    trials: Mapping[str, Any] | None = None
    overlays: Sequence[Mapping[str, Any]] = ()
    tokens: Mapping[str, Any] | None = None
    checkpoints: Sequence[Mapping[str, Any]] = ()
    """These four are parts of the page's data as `schema.json` describes them."""
    reward: str | None = None
    """The name of the column reward."""
