"""Read files of responses for the page: with a score in every row they are compared, else only shown and audited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harken.data.external_responses import ExternalResponse, read_external_responses
from harken.errors import UserError
from harken.evaluation import compare
from harken.evaluation.response_files import ByPrompt, match_all, match_files
from harken.evaluation.responses import file_responses, response_row
from harken.evaluation.verdict import REWARD_COLUMNS
from harken.records import Prompt

MAX_TEXT_COLUMNS = 12
"""Further columns of the prompts that the page has."""
_JUDGE_COLUMN = "score_"
_KNOWN_COLUMNS = frozenset(
    ["prompt_id", "policy", "generator", "model", "domain", "language", "prompt", "stop"]
)


@dataclass(frozen=True)
class FileContents:
    """Hold the rows of response files with the columns of responses.parquet; `reward` is None without a score."""

    rows: list[dict[str, Any]]
    policies: list[str]
    summary: dict[str, Any] | None = None
    reward: str | None = None
    notes: list[str] = field(default_factory=list)
    """Sentences on what is not shown, and why."""


def read_files(paths: Sequence[Path]) -> FileContents:
    """Read response files of any layout that `harken eval` reads, a policy per file or per system in a file.

    Raises UserError for a file that cannot be read, that has no responses or no text of their prompts.
    """
    files: dict[str, list[ExternalResponse]] = {}
    for path in paths:
        rows = read_external_responses(str(path))
        for system in dict.fromkeys(row.generator for row in rows):
            name = system or path.stem
            if name in files:
                name = f"{name} ({path})"
            if name in files:
                raise UserError("this file is named twice", where=str(path), fix="name it once")
            files[name] = [row for row in rows if row.generator == system]
    column = _common_column(files)
    if column is None:
        matched = match_all(files)
        rows_of_page = _rows(matched.responses, matched.prompts, None, [])
        note = (
            "Note: no column reward or score has a number for every response, so nothing is compared. "
            "Score the responses: harken score."
        )
        return FileContents(rows_of_page, list(files), notes=[note])
    matched = match_files(files, None, None)
    judges = _judges(files, column)
    rows_of_page = _rows(matched.responses, matched.prompts, column, judges)
    summary = compare.compare(rows_of_page, judges=judges)
    notes = [
        f"Note: {counts.sentence(name)}."
        for name, counts in matched.counts.items()
        if counts.failed or counts.other_prompts or counts.further_samples
    ]
    return FileContents(rows_of_page, list(files), {**summary, "scorer": column}, column, notes)


def _common_column(files: Mapping[str, Sequence[ExternalResponse]]) -> str | None:
    """Return the column that `harken eval` takes for the reward, if every response has a number there."""
    given = [row for rows in files.values() for row in rows if row.text is not None]
    return next((name for name in REWARD_COLUMNS if given and all(name in row.values for row in given)), None)


def _judges(files: Mapping[str, Sequence[ExternalResponse]], column: str) -> list[str]:
    """Return the names of the columns score_… that every file has numbers in."""
    of_files = [
        {name for row in rows for name in row.values if name.startswith(_JUDGE_COLUMN)}
        for rows in files.values()
    ]
    shared = set.intersection(*of_files)
    return [
        name.removeprefix(_JUDGE_COLUMN)
        for name in dict.fromkeys(name for rows in files.values() for row in rows for name in row.values)
        if name in shared and name != column
    ]


def _rows(
    responses: Mapping[str, ByPrompt], prompts: Sequence[Prompt], column: str | None, judges: Sequence[str]
) -> list[dict[str, Any]]:
    columns = _text_columns(prompts)
    rows = []
    for policy, own in responses.items():
        generated = file_responses(policy, own, [prompt for prompt in prompts if prompt.id in own])
        assert generated.external is not None
        for number, external in enumerate(generated.external):
            scores: dict[str, float | None] = {"reward": external.values[column] if column else None}
            scores |= {f"score_{judge}": external.values.get(f"{_JUDGE_COLUMN}{judge}") for judge in judges}
            if column is None:
                scores |= {
                    name: value for name, value in external.values.items() if name.startswith(_JUDGE_COLUMN)
                }
            row = response_row(policy, generated, number, scores, columns)
            rows.append(row | {"source": external.where})
    return rows


def _text_columns(prompts: Sequence[Prompt]) -> list[str]:
    """Return the prompts' columns of text that differ between prompts and are not shown anyway."""
    values: dict[str, set[str]] = {}
    new: set[str] = set()
    for prompt in prompts:
        for name, value in prompt.details.items():
            if isinstance(value, str) and name not in _KNOWN_COLUMNS:
                values.setdefault(name, set()).add(value)
                if value not in (prompt.domain, prompt.messages[-1].content):
                    new.add(name)
    return [name for name, found in values.items() if len(found) > 1 and name in new][:MAX_TEXT_COLUMNS]
