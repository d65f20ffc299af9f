"""Parse rows as records and report every dropped row. `sources` applies limits and splits."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from harken.config.base import DataConfig, Task
from harken.data import (
    columns,
    conversations,
    fields,
    files,
    labelled_texts,
    layouts,
    provenance,
    token_pairs,
)
from harken.data.conversations import Conversation
from harken.data.fields import Row, RowError
from harken.data.layouts import Layout
from harken.data.preferences import Comparison, agreement, to_preference
from harken.data.prompt_rule import prompt_rule
from harken.data.raters.aggregate import aggregate_raters
from harken.data.raters.criteria import combine_criteria
from harken.data.report import DataReport
from harken.errors import UserError
from harken.records import Demonstration, Preference, Prompt, TokenPair, Voter
from harken.run.counted import counted
from harken.run.terminal import escape_invisible

Record = TypeVar("Record")
Pair = Preference | TokenPair

DEFAULT_SEED = 839
MAX_CHARS = 1_000_000
"""Texts up to this length are tokenised at any token limit; a tokenizer takes about a second for one."""
CHARS_PER_TOKEN = 100
"""Upper bound of characters per token: a text too long for its token limit is dropped before it is tokenised."""
LABELLED_TASKS: tuple[Task, ...] = ("classifier", "unpaired_preference")
"""Tasks that read the label of a single response; `data.task: sft` is accepted for them too."""
RESPONSES_DROPPED = "context lost assistant turns at its end"

Read = tuple[Sequence[Record | RowError], bool]
"""The records or errors of one row, and whether assistant turns at the end of its context were dropped."""


def parse_prompt_rows(
    data: DataConfig, path: str | None = None, keep: Sequence[str] = ()
) -> tuple[list[Prompt], DataReport]:
    """Parse distinct prompts, ignoring responses in the rows. The columns `keep` become part of `details`.

    Raises UserError when the source cannot be read or no layout fits it, as the other functions here do.
    """
    if data.prompt_column is None:
        rows, layout, report = open_rows(data, path, "prompt_only")
        read_turns = layout.prompt
        assert read_turns is not None
    else:
        column = data.prompt_column
        path = _path(data, path, "prompt_only")
        rows = columns.rename_columns(files.read_source_rows(path, data.split), data.columns, path)
        report = DataReport(path, f"column {column}")

        def read_turns(row: Row) -> Conversation:
            return conversations.parse_conversation(fields.first_value(row, column), column)

    seen: set[str] = set()
    ids: set[str] = set()

    def read(row: Row) -> Read[Prompt]:
        prompt, shortened = prompt_of_row(row, read_turns(row))
        if (content := content_hash(prompt.messages, prompt.tools)) in seen:
            raise RowError("duplicate_prompt")
        if prompt.id in ids:
            raise RowError("duplicate_id", "id")
        seen.add(content)
        ids.add(prompt.id)
        extra = {name: row[name] for name in keep if row.get(name) is not None}
        details = prompt.details | extra
        return [replace(prompt, reference=_reference(row), details=details)], shortened

    return convert_rows(rows, read, report, data.max_length), report


def parse_demonstration_rows(
    data: DataConfig, path: str | None = None
) -> tuple[list[Demonstration], DataReport]:
    """Parse prompts with their target responses: the better side of a preference, the best response of a ranking."""
    rows, layout, report = open_rows(data, path, "sft")

    def read(row: Row) -> Read[Demonstration]:
        if _is_bad(row):
            raise RowError("labelled_bad", "label")
        turns, response = layout.demonstration(row) if layout.demonstration else _better(layout, row)
        prompt, shortened = prompt_of_row(row, turns)
        if not response.strip():
            raise RowError("empty_response")
        return [Demonstration(prompt, response)], shortened

    return convert_rows(rows, read, report, data.max_length), report


def holds_pairs(data: DataConfig) -> bool:
    """Return whether rows hold several responses to compare; False for single responses."""
    rows = columns.rename_columns(files.read_source_rows(data.path, data.split), data.columns, data.path)
    if data.criteria is not None:
        rows = combine_criteria(rows, data.criteria, data.path)
    layout = layouts.find_layout(
        data.layout, [row for _, row in rows if isinstance(row, dict)], where=data.path
    )
    return layout.has_comparisons or layout.name == layouts.TOKENISED


def parse_preference_rows(
    data: DataConfig, path: str | None = None, *, soft: bool = False, seed: int = DEFAULT_SEED
) -> tuple[list[Pair], DataReport]:
    """Parse pairs of responses, ties with label 1/2, and compute the rater agreement of the kept rows.

    `seed` joins labelled texts to pairs (`labelled_texts`); other layouts do not use it.
    """
    rows, layout, report = open_rows(data, path, "preference", seed)
    judged: list[tuple[float, ...]] = []
    scored: Counter[str] = Counter()

    def read(row: Row) -> Read[Pair]:
        if layout.comparisons is None:
            return [token_pairs.parse_token_pair(row, data.max_length, _row_id(row))], False
        turns, compared = layout.comparisons(row)
        prompt, shortened = prompt_of_row(row, turns)
        scored[_scores(row)] += 1
        records: list[Pair | RowError] = []
        for comparison in compared:
            reason = rejection_reason(comparison)
            if reason is None:
                judged.append(comparison.raters)
            if len(compared) == 1:
                who = provenance.voter(row) if data.raters else Voter(provenance.rater_name(row))
                comparison = replace(
                    comparison,
                    written_by=provenance.written_by(row),
                    rater=who.name,
                    ordered=layout.name not in provenance.PREFERRED_FIRST,
                    voters=comparison.voters or ((who,) if who.name and not comparison.raters else ()),
                    gold=provenance.golden_judgement(row) if data.raters else None,
                )
            records.append(
                RowError(reason) if reason else to_preference(comparison, prompt, layout.name, soft)
            )
        return records, shortened

    records: list[Pair] = convert_rows(rows, read, report, data.max_length)
    report.warnings += [
        f"{counted(scored[order], 'row')} with chosen and rejected scored {what} (score_chosen, score_rejected): "
        "their labels are used"
        for order, what in (("equal", "equally"), ("reversed", "the other way round"))
        if scored[order]
    ]
    report.agreement = agreement(judged)
    if data.raters is not None:
        records, note = aggregate_raters(records, data.raters, data.rater_weights, report.path)
        report.notes.append(note)
    return records, report


def content_hash(messages: Conversation, tools: str = "") -> str:
    """Hash a conversation to 16 hexadecimal digits: a prompt's id where the data has none."""
    text = json.dumps([m.to_dict() for m in messages])
    return hashlib.sha256((text + tools).encode()).hexdigest()[:16]


def _path(data: DataConfig, path: str | None, task: Task) -> str:
    if data.task not in (None, task) and not (data.task == "sft" and task in LABELLED_TASKS):
        raise UserError(
            f"it is {data.task!r}, but this stage reads rows as {task!r}",
            where="data.task",
            fix="remove it, or set it to the task of the stage",
        )
    return path or data.path


def open_rows(
    data: DataConfig, path: str | None, task: Task, seed: int = DEFAULT_SEED
) -> tuple[list[files.LocatedRow], Layout, DataReport]:
    """Read the rows, and find a layout that supports the task; return both with an empty report."""
    path = _path(data, path, task)
    rows = columns.rename_columns(files.read_source_rows(path, data.split), data.columns, path)
    if data.criteria is not None and task != "prompt_only":
        rows = combine_criteria(rows, data.criteria, path)
    objects = [row for _, row in rows if isinstance(row, dict)]
    layout = layouts.find_layout(data.layout, objects, where=path)
    note, name = "", layout.name
    if layout.name == labelled_texts.LAYOUT:
        rows, layout, note = _labelled(rows, data, path, task, seed)
    if layout.make_comparisons is not None and task != "prompt_only":
        read = layout.make_comparisons(objects, data.label_scale, path)
        layout, note = replace(layout, comparisons=read), getattr(read, "note", "")
    has_response = layout.demonstration is not None
    serves = {
        "prompt_only": layout.prompt is not None,
        "sft": has_response or layout.has_comparisons,
        "classifier": has_response or layout.has_comparisons,
        "unpaired_preference": has_response or layout.has_comparisons,
        "preference": layout.has_comparisons or layout.name == layouts.TOKENISED,
    }
    if not serves[task]:
        raise UserError(
            f"rows in layout {layout.name!r} ({layout.description}) cannot be read as {task!r}",
            where=path,
            fix="set other data, or another data.layout",
        )
    return rows, layout, DataReport(path, name, notes=[note] if note else [])


def _labelled(
    rows: Sequence[files.LocatedRow], data: DataConfig, path: str, task: Task, seed: int
) -> tuple[list[files.LocatedRow], Layout, str]:
    """Turn rows of a text and a label into rows of the layout that the task reads; also return what to print."""
    rule = prompt_rule(data)
    if task == "preference":
        labels = [row.get("label") for _, row in rows if isinstance(row, dict)]
        names = files.class_names(path, data.split, data.columns.get("label", "label"))
        meaning = labelled_texts.judge_labels(labels, names, data.positive_label, path)
        pairs, note = labelled_texts.to_pairs(rows, rule, meaning, seed)
        return pairs, layouts.find_layout("prompt_chosen_rejected", [], where=path), note
    converted = (
        labelled_texts.to_prompts(rows, rule)
        if task == "prompt_only"
        else labelled_texts.to_demonstrations(rows, rule, keep_label=task in LABELLED_TASKS)
    )
    note = f"the first {rule.description} of a text are the prompt, whatever its label is"
    return list(converted), layouts.find_layout("prompt", [], where=path), note


def convert_rows(
    rows: Sequence[files.LocatedRow], read: Callable[[Row], Read[Record]], report: DataReport, limit: int
) -> list[Record]:
    """Read every row with `read`, and count in the report what is kept, dropped and shortened."""
    longest = max(MAX_CHARS, CHARS_PER_TOKEN * limit)
    records: list[Record] = []
    used: set[str] = set()
    columns_seen: dict[str, None] = {}
    for where, row in rows:
        if isinstance(row, RowError):
            report.drop(where, row.reason, row.field)
            continue
        if not isinstance(row, dict):
            report.drop(where, "not_an_object")
            continue
        columns_seen |= dict.fromkeys(key for key, value in row.items() if value is not None)
        try:
            parsed, shortened = read(columns.TrackedRow(row, used))
        except RowError as drop:
            report.drop(where, drop.reason, drop.field)
            continue
        for record in parsed:
            if isinstance(record, RowError):
                report.drop(where, record.reason, record.field)
            elif _letters(record) > longest:
                report.drop(where, "text_too_long")
            else:
                report.keep()
                report.shortened[RESPONSES_DROPPED] += shortened
                records.append(record)
    report.shortened = +report.shortened
    # A row that is dropped early leaves columns unread that are used otherwise.
    report.unused = [name for name in columns_seen if name not in used] if records else []
    return records


def _letters(record: object) -> int:
    """Return the length of the longest text of a record."""
    if isinstance(record, Preference):
        return max(_letters(record.prompt), len(record.chosen), len(record.rejected))
    if isinstance(record, Demonstration):
        return max(_letters(record.prompt), len(record.response))
    return max(len(m.content) for m in record.messages) if isinstance(record, Prompt) else 0


def prompt_of_row(row: Row, turns: Conversation) -> tuple[Prompt, bool]:
    """Return a row's prompt, and whether assistant turns at its end were dropped."""
    messages, shortened = conversations.drop_trailing_responses(
        conversations.add_system_and_history(row, turns)
    )
    details = fields.json_object(row.get("details"))
    if row.get("keywords") is not None:
        details["keywords"] = row["keywords"]
    tools = fields.parse_tools(row)
    prompt = Prompt(
        id=_row_id(row) or content_hash(messages, tools),
        messages=messages,
        domain=escape_invisible(_name(row, "domain") or _name(row, "category") or _name(row, "subset")),
        language=escape_invisible(_name(row, "language")),
        details=details,
        tools=tools,
    )
    return prompt, shortened


def _row_id(row: Row) -> str | None:
    """Return the row's "id" if it is text or an integer."""
    value = row.get("id")
    return str(value) if type(value) is int else _name(row, "id") or None


def _name(row: Row, field: str) -> str:
    """Return a field's text, "" for a value of another type."""
    return fields.require_text(row[field], field) if isinstance(row.get(field), str) else ""


REFERENCES = ("reference", "reference_answer", "ground_truth", "solution", "answer")
"""Columns with a reference response, for rewards that compare with it; the first one present is used."""


def _reference(row: Row) -> str | None:
    name = fields.first_present(row, REFERENCES)
    if name is None or isinstance(row[name], bool) or not isinstance(row[name], str | int | float):
        return None
    return fields.require_text(str(row[name]), name)


def _is_bad(row: Row) -> bool:
    """Return whether a single response is labelled as bad (thumbs down), so it is not a target response."""
    label = row.get("label")
    if isinstance(label, str):
        return label.strip().lower() == "false"
    return label is False or ("completion" in row and fields.to_float(label) == 0)


def _scores(row: Row) -> str:
    """Compare the scores of the chosen and the rejected response: right, equal, reversed or none."""
    chosen, rejected = fields.to_float(row.get("score_chosen")), fields.to_float(row.get("score_rejected"))
    if chosen is None or rejected is None:
        return "none"
    return "right" if chosen > rejected else "equal" if chosen == rejected else "reversed"


def _better(layout: Layout, row: Row) -> tuple[Conversation, str]:
    """Return the conversation and the better response; raise RowError as for preferences."""
    assert layout.comparisons is not None
    turns, compared = layout.comparisons(row)
    best = compared[0]
    if best.score == 0:
        raise RowError("tie")
    if reason := rejection_reason(best):
        raise RowError(reason)
    return turns, best.first if best.score < 0 else best.second


def rejection_reason(comparison: Comparison) -> str | None:
    """Return why a comparison cannot be used: an empty response, or two equal ones; None where it can."""
    if not comparison.first.strip() or not comparison.second.strip():
        return "empty_response"
    return "identical_responses" if comparison.first.strip() == comparison.second.strip() else None
