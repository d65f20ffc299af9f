"""Check a data source before training: its rows, how many fit a token limit, and the diversity of preferences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harken.chat.template import TemplateRefusal
from harken.config.base import DataConfig, Task
from harken.data import columns, diversity, files, layouts, parse, sources
from harken.data.advice import advise_pairs, describe_positions, describe_writers, warn_off_policy
from harken.data.chat import Renderer, RenderFailure
from harken.data.classified import parse_classified_rows, parse_rated_rows
from harken.data.length_grid import GRID_LIMITS, RowLength, grid_cells, row_lengths
from harken.data.markup import MarkupDetector
from harken.data.raters.criteria import combine_criteria
from harken.data.report import DataReport
from harken.models.find_tokenizer import renderer_of
from harken.models.resolve import resolve
from harken.records import Demonstration, Preference, Prompt, TokenPair
from harken.run.terminal import format_table, progress

STAGE_OF_TASK = {"preference": "sft", "unpaired_preference": "kto"}
"""Name of the stage in the table of lengths, where it is not that of the task: SFT reads a pair's better side."""


def check_data(data: DataConfig, model: str | None = None) -> list[str]:
    """Report on all rows, as lines; for preferences also on their diversity.

    With `model`, also count tokens and the rows that `data.max_length` drops or shortens. Without `data.task` the rows
    are read as preferences if possible, else demonstrations, else prompts. Raises UserError when the source cannot be
    read, or there is no such model.
    """
    task = data.task or infer_task(data)
    rows: Sequence[Demonstration | Preference | TokenPair | Prompt]
    if task == "preference":
        rows, report = parse.parse_preference_rows(data)
    elif task == "sft":
        rows, report = parse.parse_demonstration_rows(data)
    elif task == "classifier":
        rows, report = parse_classified_rows(data)
    elif task == "unpaired_preference":
        rows, report = parse_rated_rows(data)
    else:
        rows, report = parse.parse_prompt_rows(data)
    sources.warn_duplicates(rows, report)
    pairs = [row for row in rows if isinstance(row, Preference | TokenPair)]
    texts = [pair for pair in pairs if isinstance(pair, Preference)]
    lengths: list[int] = []
    grid: list[RowLength] = []
    renderer = None
    if model is not None:
        renderer = renderer_of(resolve(model), data.keep_special_tokens)
        limits = sorted({*GRID_LIMITS, data.max_length})
        for row in progress(rows, "tokens"):
            if n := _count_tokens(row, renderer, data.max_length, report):
                lengths.append(n)
                grid += _grid_row(row, renderer, limits, STAGE_OF_TASK.get(task, task))
        report.warnings += [line for line in [warn_off_policy(pairs, model)] if line]
    report.warnings += MarkupDetector(renderer).warnings(rows)
    positions, skew = describe_positions(texts)
    report.warnings += [skew] if skew else []
    facts = diversity.summary_lines(pairs)
    facts += [describe_writers(texts), *([positions] if positions else [])] if texts else []
    facts += [advise_pairs(len(pairs))] if pairs else []
    lines = [f"read as {task}", *report.lines(), *(f"  {line}" for line in facts)]
    if not lengths:
        return lines
    cells = grid_cells(grid, limits)
    table = format_table(cells, right=set(cells) - {"stage", "domain"}).splitlines()
    title = "  rows over a token limit (in brackets: dropped, because the response alone is too long):"
    return [
        *lines,
        *([title, *(f"    {line}" for line in table)] if grid else []),
        f"  tokens before truncation: {format_quantiles(lengths)}",
    ]


def infer_task(data: DataConfig) -> Task:
    """Infer the task that the rows of `data.path` support: preferences, else demonstrations, else prompts."""
    if data.prompt_column is not None:
        return "prompt_only"
    numbered = columns.rename_columns(files.read_source_rows(data.path, data.split), data.columns, data.path)
    if data.criteria is not None:
        numbered = combine_criteria(numbered, data.criteria, data.path)
    rows = [row for _, row in numbered if isinstance(row, dict)]
    layout = layouts.find_layout(data.layout, rows, where=data.path)
    if layout.has_comparisons or layout.prompt is None:
        return "preference"
    # A layout's response may be optional: rows without one are prompts.
    has_responses = layout.demonstration is not None and parse.parse_demonstration_rows(data)[0]
    return "sft" if has_responses else "prompt_only"


def format_quantiles(counts: Sequence[int]) -> str:
    """Format quantiles as ``median 52, 90 % 140, 99 % 230, longest 256`` (inverted CDF)."""
    if not counts:
        return "no row is left"
    half, most, nearly_all = np.quantile(counts, [0.5, 0.9, 0.99], method="inverted_cdf")
    return f"median {half:,}, 90 % {most:,}, 99 % {nearly_all:,}, longest {max(counts):,}"


def _grid_row(
    row: Demonstration | Preference | TokenPair | Prompt,
    renderer: Renderer,
    limits: Sequence[int],
    stage: str,
) -> list[RowLength]:
    """Measure a row for the grid; [] of a row that the chat template refuses."""
    try:
        return row_lengths(row, renderer, limits, stage)
    except TemplateRefusal:
        return []


def _count_tokens(
    row: Demonstration | Preference | TokenPair | Prompt, renderer: Renderer, limit: int, report: DataReport
) -> int | None:
    """Count a row's tokens before truncation, None where that fails. Record drops and shortening in the report."""
    name = row.prompt.id if isinstance(row, Demonstration | Preference) else row.id
    fitted: object
    try:
        if isinstance(row, Prompt):
            fitted = renderer.try_fit_prompt(row, limit)
            length = (
                0
                if isinstance(fitted, RenderFailure)
                else len(renderer.encode_prompt(row.messages, row.tools))
            )
        elif isinstance(row, TokenPair):
            length = max(len(row.chosen_tokens), len(row.rejected_tokens))
            fitted = renderer.encode_preference(row, limit)
        else:
            length = renderer.count_tokens(row)
            fitted = (
                renderer.encode_demonstration(row, limit)
                if isinstance(row, Demonstration)
                else renderer.encode_preference(row, limit)
            )
    except TemplateRefusal as error:
        length, fitted = 0, RenderFailure("template_refuses", error.message)
    if isinstance(fitted, RenderFailure):
        report.drop_kept(name, fitted.reason, detail=fitted.detail)
    elif length > limit:
        report.shortened["prompt truncated to fit the token limit"] += 1
    if not isinstance(fitted, RenderFailure) and not isinstance(row, TokenPair):
        report.changed.update(renderer.changes(row))
    return length or None
