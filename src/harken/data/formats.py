"""Parse a file's contents as rows with their locations: JSON lines, a JSON array, columns as JSON, CSV or TSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import PurePath

from harken.errors import UserError

LocatedRow = tuple[str, object]
"""A row's location (``path:line``), and its parsed value."""

FIX_JSON = "correct or remove it; rows are one JSON object per line, or one JSON array of them"
_TABLES = {".csv": ",", ".tsv": "\t"}
_WRAPPERS = ("data", "rows", "examples", "instances", "train")
"""Keys of an object that holds only a list of rows."""
_ONE_ROW = {
    "responses",
    "ranking",
    "answers",
    "completions",
    "turns",
    "messages",
    "conversations",
    "instances",
}
"""Columns that hold a list in a single row."""
MAX_FIELD_CHARS = 1 << 27


def parse_rows(content: bytes, path: str) -> Iterator[LocatedRow]:
    """Parse the rows of a file's contents. The format follows from the contents; CSV and TSV from the file's name.

    Raises UserError with the line number for anything that cannot be parsed: the rest of such a file is not trusted.
    """
    content = content.removeprefix(b"\xef\xbb\xbf")
    names = [suffix.lower() for suffix in PurePath(path).suffixes[-2:]]
    separator = next((_TABLES[name] for name in names if name in _TABLES), None)
    if separator is not None:
        return _table(content, path, separator)
    start = content.lstrip()
    if start.startswith(b"["):
        return _items(_parse(content, path), path)
    # A .jsonl file has one row per line, even when it has a single line.
    if ".jsonl" not in names and start.startswith(b"{") and (document := _one_object(content)) is not None:
        return _from_object(document, path)
    return _lines(content, path)


def _lines(content: bytes, path: str) -> Iterator[LocatedRow]:
    for line_number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            yield f"{path}:{line_number}", _parse(line, f"{path}:{line_number}")


def _items(items: object, path: str) -> Iterator[LocatedRow]:
    assert isinstance(items, list)
    yield from ((f"{path}:item {i}", item) for i, item in enumerate(items, start=1))


def _one_object(content: bytes) -> dict[str, object] | None:
    """Return the file's single object: a table of columns, a wrapper around rows, or one row over several lines."""
    if content.strip().count(b"\n") and _is_json(content.lstrip().split(b"\n", 1)[0]):
        return None  # the first line is an object by itself: one row per line
    try:
        document = json.loads(content.decode())
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line.decode())
    except (ValueError, RecursionError):
        return False
    return True


def _from_object(document: dict[str, object], path: str) -> Iterator[LocatedRow]:
    lists = [value for value in document.values() if isinstance(value, list)]
    if (
        len(document) == 1
        and lists
        and next(iter(document)) in _WRAPPERS
        and all(isinstance(x, dict) for x in lists[0])
    ):
        yield from _items(lists[0], path)
    elif _is_columns(document):
        lengths = {name: len(value) for name, value in document.items()}  # type: ignore[arg-type]
        if len(set(lengths.values())) > 1:
            raise UserError(
                f"its columns have different lengths: {lengths}",
                where=path,
                fix="give every column the same number of values",
            )
        for row_number, values in enumerate(zip(*lists, strict=True), start=1):
            yield f"{path}:row {row_number}", dict(zip(document, values, strict=True))
    else:
        yield f"{path}:1", document


def _is_columns(document: dict[str, object]) -> bool:
    """Return whether every value is a list, and one a list of texts: columns. Token ids and messages are not."""
    if _ONE_ROW & document.keys():
        return False
    lists = [value for value in document.values() if isinstance(value, list)]
    return len(lists) == len(document) > 1 and any(
        value and all(isinstance(item, str) for item in value) for value in lists
    )


def _table(content: bytes, path: str, separator: str) -> Iterator[LocatedRow]:
    """Parse a header line and one row per record. An empty cell is null."""
    text = _decoded(content, path)
    csv.field_size_limit(MAX_FIELD_CHARS)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        header = next(reader, [])
        if len(set(header)) < len(header) or not all(name.strip() for name in header):
            raise UserError(
                f"its first line is not a header: {', '.join(header)[:200]!r}",
                where=f"{path}:1",
                fix="write the column names in the first line, each once",
            )
        for cells in reader:
            place = f"{path}:{reader.line_num}"
            if not cells:
                continue
            if len(cells) != len(header):
                raise UserError(
                    f"this record has {len(cells)} cells, its header {len(header)}",
                    where=place,
                    fix='put cells that hold a separator or a line break in quotes: "…"',
                )
            yield place, {name.strip(): cell or None for name, cell in zip(header, cells, strict=True)}
    except csv.Error as error:
        raise UserError(
            f"not CSV: {error}",
            where=f"{path}:{reader.line_num}",
            fix="write the file again as CSV, or as JSONL",
        ) from error


def _decoded(content: bytes, where: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise UserError(
            f"not UTF-8 text ({error.reason} at byte {error.start})",
            where=where,
            fix="save the file as UTF-8",
        ) from error


def _parse(content: bytes, where: str) -> object:
    text = _decoded(content, where)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise UserError(
            f"not JSON: {error.msg} ({place}character {error.colno})", where=where, fix=FIX_JSON
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"not JSON that can be read: {error}", where=where, fix=FIX_JSON) from error
