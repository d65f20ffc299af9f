"""Rename the columns of rows to the names of a layout, and track which columns are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harken.data.formats import LocatedRow
from harken.errors import UserError


def rename_columns(rows: Sequence[LocatedRow], columns: Mapping[str, str], where: str) -> list[LocatedRow]:
    """Rename columns by `data.columns`.

    `columns` maps a layout's column name to a column of the file; `outer.inner` reads inside an object. It replaces a
    column that already has the name. Raises UserError for a column that no row has.
    """
    if not columns:
        return list(rows)
    present = {column for column in columns.values() if any(_has(row, column) for _, row in rows)}
    if missing := [column for column in columns.values() if column not in present]:
        available = sorted({str(key) for _, row in rows[:100] if isinstance(row, dict) for key in row})
        raise UserError(
            f"no row has a column {missing[0]!r}; there are {', '.join(available)[:300]}",
            where=f"data.columns, {where}",
            fix="name columns of the file on the right: data.columns: {prompt: question}",
        )
    return [(place, _row(row, columns) if isinstance(row, dict) else row) for place, row in rows]


def _row(row: dict[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    used = set(columns.values())
    untouched = {key: value for key, value in row.items() if key not in used and key not in columns}
    return untouched | {name: _value(row, column) for name, column in columns.items()}


def _has(row: object, column: str) -> bool:
    return isinstance(row, dict) and (column in row or _value(row, column) is not None)


def _value(row: dict[str, Any], column: str) -> Any:
    if column in row:
        return row[column]
    value: Any = row
    for part in column.split("."):
        if not isinstance(value, dict) or part not in value:
            return None
        value = value[part]
    return value


class TrackedRow(dict[str, Any]):
    """Record in `used` which columns of a row were read."""

    def __init__(self, row: Mapping[str, Any], used: set[str]) -> None:
        super().__init__(row)
        self._used = used

    def __getitem__(self, key: str) -> Any:
        self._used.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        """Return a column's value as dict.get does, and record the column as read."""
        if key in self:
            self._used.add(key)
        return super().get(key, default)
