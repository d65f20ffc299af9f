"""Say what a page is about, and read the responses that it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harken.config.audit import AuditSettings
from harken.evaluation.summary import read_responses, read_summary
from harken.explorer.page_training import TITLES
from harken.inspection.unreadable import UnreadableFiles
from harken.pipeline.page_files import FileContents
from harken.pipeline.page_rows import run_rows
from harken.pipeline.page_trials import best_runs
from harken.pipeline.roles import PolicyRoles
from harken.run.folder import EvaluationFolder, RunFolder

MAX_RUNS_WITH_ROWS = 4
"""Runs whose responses and tokens are on a page; of more runs, those with the highest held-out reward."""


@dataclass(frozen=True)
class PageContents:
    """Hold what a page shows: training runs by name, and an evaluation with the roles of its policies."""

    title: str
    name: str
    """The name in `results.json`."""
    runs: Mapping[str, RunFolder]
    kinds: Mapping[str, str]
    """Training type of each run."""
    titles: Mapping[str, str] = field(default_factory=dict)
    """Title of a run on the page, where that of its type is not enough."""
    path: str = ""
    """The folder or file that the page is about."""
    files: FileContents | None = None
    """Response files, in place of an evaluation."""
    evaluation: EvaluationFolder | None = None
    roles: PolicyRoles = field(default_factory=lambda: PolicyRoles({}, ()))
    audit_settings: AuditSettings = field(default_factory=AuditSettings)
    notice: str = ""
    """Shown in `results.json` and on the page."""
    warnings: Sequence[str] = ()
    """Shown after the notice and the warning of trained prompts."""

    def of_kind(self, kind: str) -> dict[str, RunFolder]:
        """Return the runs of a training type."""
        return {name: run for name, run in self.runs.items() if self.kinds[name] == kind}

    def run_title(self, name: str, *, short: bool = False) -> str:
        """Return the title of a run; `short`: without the title of its kind, where several runs share a chart."""
        kind = self.kinds[name]
        title = self.titles.get(name) or TITLES.get(kind, kind)
        return title.removeprefix(f"{TITLES.get(kind, kind)}: ") if short else title


@dataclass(frozen=True)
class ShownResponses:
    """Hold the responses of a page, from an evaluation, from files, or from the runs themselves."""

    rows: list[dict[str, Any]]
    baseline: str
    summary: dict[str, Any] | None = None
    reward: str | None = None
    notes: Sequence[str] = ()
    runs: Mapping[str, RunFolder] = field(default_factory=dict)
    """The runs whose tokens are shown."""
    unreadable: UnreadableFiles = field(default_factory=UnreadableFiles)
    """What of the runs' records was left out."""

    @classmethod
    def of(cls, contents: PageContents, metrics: Mapping[str, Sequence[Mapping[str, Any]]]) -> ShownResponses:
        """Read the responses of the evaluation or the files, else of the runs."""
        chosen = best_runs(contents.runs, metrics, MAX_RUNS_WITH_ROWS)
        if contents.evaluation is not None:
            summary = read_summary(contents.evaluation.summary)
            rows = read_responses(contents.evaluation.responses, summary)
            return cls(rows, summary["baseline"], summary, runs=chosen)
        if (files := contents.files) is not None:
            first = files.policies[0]
            return cls(files.rows, first, files.summary, files.reward, files.notes)
        unreadable = UnreadableFiles()
        rows = run_rows(chosen, unreadable)
        policies = [name for name in contents.runs if contents.kinds[name] in ("ppo", "online_dpo")]
        notes = []
        if rows and len(chosen) < len(policies):
            notes.append(
                f"Note: responses and tokens are those of {len(chosen)} of {len(policies)} runs, which have the "
                f"highest reward: {', '.join(chosen)}."
            )
        baseline = rows[0]["policy"] if rows else ""
        return cls(rows, baseline, notes=notes, runs=chosen, unreadable=unreadable)
