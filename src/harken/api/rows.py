"""Convert rows and prompts of a Python program to prompts and to rows of a file."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harken.config.base import DataConfig
from harken.data import sources
from harken.data.parse import content_hash
from harken.errors import UserError
from harken.records import Message, Prompt
from harken.run import atomic, bounded_read

Turn = Mapping[str, Any] | Message
PromptLike = str | Sequence[Turn] | Prompt | Mapping[str, Any]
"""A user message, a conversation, a Prompt, or a row of a prompts file."""
RowsLike = str | Path | DataConfig | Iterable[PromptLike]
"""A path or name as in `data.path`, the section `data`, or rows: a list or a `datasets.Dataset`."""


def as_prompts(rows: Sequence[PromptLike]) -> list[Prompt]:
    """Return one prompt for each row, in order; ids are those of a file with these rows.

    Raises UserError for a row that is not a prompt.
    """
    if isinstance(rows, str):
        raise UserError("prompts is one text", where="prompts", fix="give a list of prompts: [text]")
    return [_to_prompt(row, number) for number, row in enumerate(rows, 1)]


def write_given_rows(rows: Iterable[PromptLike], path: Path) -> None:
    """Write rows as JSONL to `path`, for a run that reads it as `data.path`.

    Raises UserError for a row that is not JSON, and if `path` has other rows: those of the run in its folder.
    """
    lines = [_line(row, number) for number, row in enumerate(rows, 1)]
    text = "".join(line + "\n" for line in lines)
    if not lines:
        raise UserError("there are no rows", where="rows", fix="give at least one row")
    encoded = text.encode()
    if not path.exists():
        atomic.write_text(path, text)
    elif path.stat().st_size != len(encoded) or bounded_read.read_bytes(path, len(encoded)) != encoded:
        raise UserError(
            "the run in this folder began with other rows",
            where=str(path),
            fix="give the same rows, or choose another folder",
        )


def data_settings(rows: RowsLike, held_out: RowsLike | None, folder: Path) -> dict[str, Any]:
    """Return the section `data` for training and held-out rows; rows that are not a path are written into `folder`."""
    if isinstance(rows, DataConfig):
        settings = rows.model_dump(mode="json", exclude_unset=True)
    else:
        settings = {"path": _place(rows, folder / "train.jsonl")}
    if held_out is not None:
        if isinstance(held_out, DataConfig):
            raise UserError(
                "held-out rows have no section of their own",
                where="held_out",
                fix="give rows or a path, or set eval_path in the DataConfig of the training rows",
            )
        settings["eval_path"] = _place(held_out, folder / "held_out.jsonl")
    return settings


def _place(rows: str | Path | Iterable[PromptLike], path: Path) -> str:
    if isinstance(rows, str | Path):
        return str(rows)
    write_given_rows(rows, path)
    return str(path)


def _line(row: PromptLike, number: int) -> str:
    try:
        return json.dumps(_to_dict(row, number), ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"the row cannot be written as JSON ({error})",
            where=f"row {number}",
            fix="give texts, numbers, lists and dicts",
        ) from None


def _to_dict(row: PromptLike, number: int) -> dict[str, Any]:
    if isinstance(row, str):
        return {"prompt": row}
    if isinstance(row, Prompt):
        named = {"id": row.id, "domain": row.domain, "language": row.language, "reference": row.reference}
        fields: dict[str, Any] = {key: value for key, value in named.items() if value}
        if row.details:
            fields["details"] = row.details
        if row.tools:
            fields["tools"] = json.loads(row.tools)
        return fields | {"messages": [message.to_dict() for message in row.messages]}
    if isinstance(row, Mapping):
        return dict(row)
    if isinstance(row, Sequence) and row and all(isinstance(turn, Mapping | Message) for turn in row):
        return {"messages": [_turn(turn) for turn in row]}
    raise UserError(
        f"{type(row).__name__} is not a prompt or a row",
        where=f"row {number}",
        fix="give a text, a list of messages, a Prompt or a dict",
    )


def _turn(turn: Any) -> dict[str, Any]:
    return turn.to_dict() if isinstance(turn, Message) else dict(turn)


def _to_prompt(row: PromptLike, number: int) -> Prompt:
    if isinstance(row, Prompt):
        return row
    if isinstance(row, str) and row.strip():
        messages = (Message("user", row),)
        return Prompt(content_hash(messages), messages)
    with tempfile.TemporaryDirectory(prefix="harken-") as folder:
        path = Path(folder) / f"row-{number}.jsonl"
        atomic.write_text(path, _line(row, number) + "\n")
        (prompt,), _ = sources.load_prompts(DataConfig(path=str(path)))
    return prompt
