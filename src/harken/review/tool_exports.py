"""Read the votes in an export of Label Studio or Argilla, and join them to the raters of a review. No torch.

Read are JSON, JSON_MIN, CSV and TSV of Label Studio, and of Argilla the file of `export.py` and `records.to_json`. An
item belongs to one rater, so its votes are those of one account: annotations of other accounts are left out.
"""

from __future__ import annotations

import csv
import io
import json
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harken.errors import UserError
from harken.review.session import shown_task
from harken.review.study import Study
from harken.review.tool_packs import STRENGTH_LABELS, TOOL_CHOICES, WORD_JOINER, Tool
from harken.review.votes import MAX_SECONDS
from harken.run import bounded_read, json_io

FIX_EXPORT = (
    "export the labelled project again: JSON, JSON_MIN or CSV of Label Studio; Argilla: export.py of the pack"
)
MIN_ACCOUNT_SHARE = 0.75
"""Share of a rater's labelled items that one account must have for the other accounts to be left out."""
QUESTIONS = ("choice", "strength", "reasons")
NO_STATUS = (
    "responses without a status, which records.to_json does not have for several accounts (export.py has)"
)
_VOTE_COLUMNS = {"task", "choice"}


@dataclass(frozen=True)
class Annotation:
    """What one account gave for one task: the fields of a vote, and when, "" if the export does not say."""

    account: str
    at: str
    vote: dict[str, Any]


@dataclass(frozen=True)
class ToolExport:
    """The annotations of an export, and counts of what is no annotation, by reason.

    `texts`: the two responses of each task as the export has them.
    """

    tool: Tool
    annotations: list[Annotation]
    left_out: Counter[str] = field(default_factory=Counter)
    texts: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def read_tool_export(path: Path) -> ToolExport:
    """Read an export of either tool. Raises UserError for a file that is neither's."""
    rows = [row for row in _rows(path) if isinstance(row, dict)]
    left_out: Counter[str] = Counter()
    tool: Tool = "argilla"
    if rows and all("fields" in row and "responses" in row for row in rows):
        shown = {str(row.get("id")): row["fields"] for row in rows}
        found = list(_nested_argilla(rows, left_out))
    elif rows and all("id" in row and any(f"{name}.responses" in row for name in QUESTIONS) for row in rows):
        shown = {str(row["id"]): row for row in rows}
        found = list(_flat_argilla(rows, left_out))
    elif rows and all("task" in _label_studio_data(row) for row in rows):
        tool = "label-studio"
        shown = {str(_label_studio_data(row)["task"]): _label_studio_data(row) for row in rows}
        found = list(_label_studio(rows, left_out))
    else:
        problem = "these are no labelled items of a pack for Label Studio or Argilla"
        raise UserError(problem, where=str(path), fix=FIX_EXPORT)
    chosen = [one for one in found if one.vote["choice"]]
    left_out["annotations without a choice"] += len(found) - len(chosen)
    return ToolExport(tool, chosen, +left_out, _responses(shown))


def votes_of_raters(
    study: Study, export: ToolExport, where: str
) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Return the last vote of each task by its rater's account, in order of time, and counts of what was left out.

    Left out are votes on responses that are no longer those of the study (they were edited in the tool), and those of
    other accounts. Raises UserError if an item is not of the study, or no account has most of a rater's items.
    """
    unknown = {one.vote["task"] for one in export.annotations} - set(study.by_task)
    if unknown:
        raise UserError(
            f"{len(unknown):,} items are not of this review, such as {min(unknown)[:40]!r}",
            where=where,
            fix="name the folder of the pack whose items were labelled",
        )
    edited = _edited(study, export)
    unedited = [one for one in export.annotations if one.vote["task"] not in edited]
    accounts = _accounts(study, unedited, where)
    own = [one for one in unedited if one.account == accounts[study.by_task[one.vote["task"]][0]]]
    last: dict[str, Annotation] = {}
    for one in sorted(own, key=lambda one: one.at):
        last.pop(one.vote["task"], None)  # a later annotation takes its place in time
        last[one.vote["task"]] = one
    standing = list(last.values())
    counts = {
        "annotations of items with edited responses": len(export.annotations) - len(unedited),
        "annotations of other accounts than the rater's": len(unedited) - len(own),
        "earlier annotations of one item": len(own) - len(standing),
    }
    return [one.vote for one in standing], export.left_out + Counter(counts)


def vote_uuid(study: Study, vote: Mapping[str, Any], supersedes: str) -> str:
    """Return the uuid of a vote, which is the same whenever the same export is read."""
    content = json.dumps(
        [study.hash, vote["task"], vote["choice"], vote["strength"], vote["reasons"], supersedes]
    )
    return str(uuid.uuid5(uuid.NAMESPACE_URL, content))


def _edited(study: Study, export: ToolExport) -> set[str]:
    """Return the tasks whose responses have other words than in the study; line breaks may change on the way."""
    edited = set()
    for task_id, texts in export.texts.items():
        if task_id in study.by_task:
            shown = shown_task(study, study.by_task[task_id][1])
            if [_words(text) for text in texts] != [_words(shown["left"]), _words(shown["right"])]:
                edited.add(task_id)
    return edited


def _words(text: str) -> list[str]:
    return text.replace(WORD_JOINER, "").split()


def _accounts(study: Study, annotations: Sequence[Annotation], where: str) -> dict[str, str]:
    """Return the account of each rater: the one that labelled most of the rater's items."""
    labelled: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for one in annotations:
        labelled[study.by_task[one.vote["task"]][0]].add((one.account, one.vote["task"]))
    accounts = {}
    for rater, pairs in labelled.items():
        counts = Counter(account for account, _ in pairs).most_common()
        accounts[rater] = counts[0][0]
        if counts[0][1] < MIN_ACCOUNT_SHARE * len(pairs):
            shares = ", ".join(f"{account} ({count:,})" for account, count in counts)
            raise UserError(
                f"several accounts labelled the items of rater {rater}: {shares}",
                where=where,
                fix="delete the annotations of the other accounts in the tool (in Argilla: discard them) and "
                "export again; every rater labels their own file alone",
            )
    return accounts


def _rows(path: Path) -> list[Any]:
    """Return the rows of a JSON array, or those of a table with the columns of a pack."""
    try:
        content = bounded_read.read_bytes(path)
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", where=str(path), fix=FIX_EXPORT) from None
    if content.lstrip()[:1] == b"[":
        return json_io.read_list(path, FIX_EXPORT)
    header = content.split(b"\n", 1)[0]
    try:
        text = io.StringIO(content.decode("utf-8-sig"), newline="")
        reader = csv.DictReader(text, delimiter="\t" if b"\t" in header else ",", strict=True)
        if not _VOTE_COLUMNS.issubset(reader.fieldnames or ()):
            return []
        return [{name: _cell(name, value) for name, value in row.items()} for row in reader]
    except (UnicodeDecodeError, csv.Error):
        return []


def _cell(name: str | None, value: Any) -> Any:
    """Return the value of a cell: Label Studio writes several choices and ratings as JSON in a cell."""
    if name in (*QUESTIONS, "lead_time") and isinstance(value, str):
        try:
            return json.loads(value) if value[:1] in ("{", "[") or name == "lead_time" else value
        except (ValueError, RecursionError):
            return value
    return value


def _responses(shown: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return left and right of every task that has both as text."""
    return {
        task: (fields["left"], fields["right"])
        for task, fields in shown.items()
        if isinstance(fields, Mapping)
        and all(isinstance(fields.get(side), str) for side in ("left", "right"))
    }


def _label_studio_data(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the data of a task: inside `data` in the JSON export, the row itself in JSON_MIN and CSV."""
    data = row.get("data")
    if isinstance(data, Mapping):
        return data
    return row if isinstance(row.get("task"), str) else {}


def _label_studio(rows: Sequence[dict[str, Any]], left_out: Counter[str]) -> Iterable[Annotation]:
    for row in rows:
        task = str(_label_studio_data(row)["task"])
        if "data" not in row:  # JSON_MIN, CSV: one row per annotation that was not skipped
            if row.get("annotation_id") in (None, "") and not row.get("choice"):
                left_out["items without a vote"] += 1
            else:
                yield Annotation(_account(row.get("annotator")), _time_of(row), _vote(task, row))
            continue
        found = [one for one in row.get("annotations") or () if isinstance(one, Mapping)]
        left_out["items without a vote"] += not found
        left_out["drafts"] += len(row.get("drafts") or ())
        for one in found:
            values = {**_results(one), "lead_time": one.get("lead_time")}
            if one.get("was_cancelled"):
                values |= {"choice": "skip", "strength": 0, "reasons": []}
            yield Annotation(_account(one.get("completed_by")), _time_of(one), _vote(task, values))


def _account(value: Any) -> str:
    """Return the id of an account; a snapshot may have the account itself."""
    return str(value.get("id", "") if isinstance(value, Mapping) else value or "")


def _time_of(annotation: Mapping[str, Any]) -> str:
    return str(annotation.get("updated_at") or annotation.get("created_at") or "")


def _results(annotation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of an annotation by the name of their control."""
    results: dict[str, Any] = {}
    for result in annotation.get("result") or ():
        if isinstance(result, Mapping) and isinstance(result.get("value"), Mapping):
            results[str(result.get("from_name"))] = result["value"]
    return results


def _nested_argilla(rows: Sequence[dict[str, Any]], left_out: Counter[str]) -> Iterable[Annotation]:
    """Yield the responses of `records.to_json`: the record has a status, a response has none.

    A record is completed once a response was submitted, so a single response to it is that one.
    """
    for row in rows:
        answers = row["responses"] if isinstance(row["responses"], Mapping) else {}
        by_user: dict[str, dict[str, Any]] = defaultdict(dict)
        for name in QUESTIONS:
            for one in answers.get(name) or ():
                if isinstance(one, Mapping):
                    by_user[str(one.get("user_id"))][name] = one.get("value")
        left_out["items without a vote"] += not by_user
        if by_user and row.get("status") == "pending":
            left_out["responses that were not submitted"] += len(by_user)
        elif len(by_user) > 1 or (by_user and row.get("status") != "completed"):
            left_out[NO_STATUS] += len(by_user)
        else:
            for user, values in by_user.items():
                yield Annotation(user, "", _vote(str(row.get("id")), values))


def _flat_argilla(rows: Sequence[dict[str, Any]], left_out: Counter[str]) -> Iterable[Annotation]:
    """Yield the responses of `records.to_list(flatten=True)`: a question has lists of values, accounts and status."""
    for row in rows:
        by_user: dict[str, dict[str, Any]] = defaultdict(dict)
        status = {}
        for name in QUESTIONS:
            columns = [row.get(f"{name}.responses{of}") or [] for of in ("", ".users", ".status")]
            for value, user, state in zip(*columns, strict=False):
                by_user[str(user)][name], status[str(user)] = value, state
        left_out["items without a vote"] += not by_user
        for user, values in by_user.items():
            if status[user] == "discarded":
                yield Annotation(user, "", _vote(str(row["id"]), {"choice": "skip"}))
            elif status[user] == "submitted":
                yield Annotation(user, "", _vote(str(row["id"]), values))
            else:
                left_out["drafts"] += 1


def _vote(task: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a vote from the values of the three questions, as they are exported by either tool."""
    choice = _first(_choices(values.get("choice")))
    names = {shown: name for name, shown in TOOL_CHOICES.items()}
    seconds = values.get("lead_time")
    return {
        "task": task,
        "choice": names.get(choice, choice) if isinstance(choice, str) else "",
        "strength": _strength(values.get("strength")),
        "reasons": _choices(values.get("reasons")),
        "seconds": min(max(float(seconds), 0.0), MAX_SECONDS) if isinstance(seconds, int | float) else 0.0,
    }


def _choices(value: Any) -> list[Any]:
    """Return the choices of a control: a text, a list, or {"choices": [...]} as Label Studio writes several."""
    if isinstance(value, Mapping):
        value = value.get("choices")
    return [value] if isinstance(value, str) and value else list(value) if isinstance(value, list) else []


def _strength(value: Any) -> Any:
    """Return a strength as a number: JSON_MIN has it as [{"rating": 2}], Argilla as the text of a label."""
    if isinstance(value, list):
        value = _first(value)
    if isinstance(value, Mapping):
        value = value.get("rating")
    if isinstance(value, str):
        levels = {label: int(number) for number, label in STRENGTH_LABELS.items()}
        return int(value) if value.isdecimal() else levels.get(value, value or 0)
    return value or 0


def _first(values: Sequence[Any]) -> Any:
    return values[0] if values else None
