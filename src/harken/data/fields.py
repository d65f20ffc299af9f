"""Reading one field of one row: the value, or the reason why the row is dropped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harken.records import Message, Role

Row = Mapping[str, Any]

LARGEST = 3.4e38
_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
}


class Drop(Exception):
    """A row cannot be used: the reason (a key of `report.REASONS`) and the field at fault."""

    def __init__(self, reason: str, field: str = "") -> None:
        super().__init__(reason, field)
        self.reason, self.field = reason, field


def present(row: Row, names: Iterable[str]) -> str | None:
    """The first of these fields that the row has and that is not null."""
    return next((name for name in names if row.get(name) is not None), None)


def required(row: Row, names: Sequence[str]) -> str:
    """As `present`; Drop("missing_field") names the first alias when there is none."""
    name = present(row, names)
    if name is None:
        raise Drop("missing_field", names[0])
    return name


def value(row: Row, *names: str) -> Any:
    """What the first of these fields that is there holds."""
    return row[required(row, names)]


def checked(value: object, field: str) -> str:
    """The value as text that can be encoded."""
    if not isinstance(value, str):
        raise Drop("wrong_type", field)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise Drop("not_unicode", field) from error
    return value


def text(row: Row, *names: str) -> str:
    """The text in the first of these fields that is there."""
    name = required(row, names)
    return checked(row[name], name)


def text_or_blank(row: Row, name: str) -> str:
    """The text of an optional field, "" when it is absent or null."""
    return "" if row.get(name) is None else text(row, name)


def number(value: object) -> float | None:
    """A number of single precision, which training computes in, given as one or as text; None otherwise.

    Booleans are no numbers.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if abs(found) <= LARGEST else None


def messages(value: object, field: str) -> tuple[Message, ...]:
    """A list of {"role", "content"} (or {"from", "value"}) as messages."""
    if not isinstance(value, list):
        raise Drop("wrong_type", field)
    return tuple(_message(item, field) for item in value)


def _message(item: object, field: str) -> Message:
    if not isinstance(item, Mapping):
        raise Drop("wrong_type", field)
    try:
        role = text(item, "role", "from")
        content = text(item, "content", "value")
    except Drop as drop:
        raise Drop(drop.reason, f"{field}.{drop.field}") from None
    if role.lower() not in _ROLES:
        raise Drop("unknown_role", f"{field}.role")
    return Message(_ROLES[role.lower()], content)
