"""Read single fields of a row, and raise RowError for a row that cannot be used."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harken.records import Message, Role

Row = Mapping[str, Any]

MAX_FLOAT32 = 3.4e38
_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
    "ipython": "tool",
    "observation": "tool",
    "tool_response": "tool",
}
_EXTRA = ("tool_calls", "tool_call_id", "name", "reasoning_content", "thinking", "reasoning")
"""Further keys of a turn that chat templates use."""


class RowError(Exception):
    """Report a row that cannot be used: the reason (a key of `report.REASONS`) and the invalid field."""

    def __init__(self, reason: str, field: str = "") -> None:
        super().__init__(reason, field)
        self.reason, self.field = reason, field


def first_present(row: Row, names: Iterable[str]) -> str | None:
    """Return the first of these fields that is not null in the row, None when there is none."""
    return next((name for name in names if row.get(name) is not None), None)


def require_any(row: Row, names: Sequence[str]) -> str:
    """Return the first of these fields that is not null; raise RowError("missing_field") when there is none."""
    name = first_present(row, names)
    if name is None:
        raise RowError("missing_field", names[0])
    return name


def first_value(row: Row, *names: str) -> Any:
    """Return the value of the first of these fields that is not null."""
    return row[require_any(row, names)]


def require_text(value: object, field: str) -> str:
    """Return the value if it is text that can be encoded as UTF-8; raise RowError otherwise."""
    if not isinstance(value, str):
        raise RowError("wrong_type", field)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise RowError("not_unicode", field) from error
    return value


def first_text(row: Row, *names: str) -> str:
    """Return the text of the first of these fields that is not null."""
    name = require_any(row, names)
    return require_text(row[name], name)


def optional_text(row: Row, name: str) -> str:
    """Return the text of an optional field, "" when it is absent or null."""
    return "" if row.get(name) is None else first_text(row, name)


def to_float(value: object) -> float | None:
    """Convert a number, or text with a number, to a float within the range of float32; None for anything else.

    Booleans are not numbers.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if abs(number) <= MAX_FLOAT32 else None


def parse_messages(value: object, field: str) -> tuple[Message, ...]:
    """Parse a list of {"role", "content"} or {"from", "value"} as messages, with tool calls and results."""
    if not isinstance(value, list):
        raise RowError("wrong_type", field)
    return tuple(_message(item, field) for item in value)


def _message(item: object, field: str) -> Message:
    if not isinstance(item, Mapping):
        raise RowError("wrong_type", field)
    extra = {key: item[key] for key in _EXTRA if item.get(key) not in (None, [], "")}
    try:
        role = first_text(item, "role", "from")
        name = first_present(item, ("content", "value"))
        if name is None and "tool_calls" not in extra:
            raise RowError("missing_field", "content")
        content = "" if name is None else _content(item[name], name)
        calls = extra.get("tool_calls")
        if calls is not None:
            extra["tool_calls"] = _tool_calls(calls)
    except RowError as drop:
        raise RowError(drop.reason, f"{field}.{drop.field}") from None
    if role.lower() not in _ROLES:
        raise RowError("unknown_role", f"{field}.role")
    return Message(_ROLES[role.lower()], content, to_json(extra, field) if extra else "")


def _content(value: object, field: str) -> str:
    """Return a turn's text. Text parts of a list are joined; another part (an image …) raises RowError."""
    if not isinstance(value, list):
        return require_text(value, field)
    texts = []
    for part in value:
        if isinstance(part, str):
            texts.append(require_text(part, field))
            continue
        if not isinstance(part, Mapping):
            raise RowError("wrong_type", field)
        kind = str(part.get("type", "text" if "text" in part else "unknown"))
        if kind not in ("text", "input_text", "output_text"):
            raise RowError("unsupported_content", f"{field}.{kind[:40]}")
        texts.append(first_text(part, "text"))
    return "".join(texts)


def _tool_calls(calls: object) -> list[Any]:
    """Return tool calls with their arguments as objects, given as objects or as JSON text."""
    if not isinstance(calls, list) or not all(isinstance(call, Mapping) for call in calls):
        raise RowError("wrong_type", "tool_calls")
    return [_tool_call(call) for call in calls]


def _tool_call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function", call)
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise RowError("wrong_type", "tool_calls")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments) if arguments.strip() else {}
        except (ValueError, RecursionError):
            raise RowError("wrong_type", "tool_calls.arguments") from None
    parsed = {**function, "arguments": {} if arguments is None else arguments}
    return (
        {"type": "function", **call, "function": parsed}
        if "function" in call
        else {
            "type": "function",
            "function": parsed,
        }
    )


def parse_tools(row: Row) -> str:
    """Return a row's tools as JSON text, "" for none; the row has them as a list or as JSON text of a list."""
    tools = row.get("tools")
    if isinstance(tools, str) and tools.strip():
        try:
            tools = json.loads(tools)
        except (ValueError, RecursionError):
            raise RowError("wrong_type", "tools") from None
    if not tools:
        return ""
    if not isinstance(tools, list) or not all(isinstance(tool, Mapping) for tool in tools):
        raise RowError("wrong_type", "tools")
    return to_json(tools, "tools")


def json_object(value: object) -> dict[str, Any]:
    """Return the object of a cell, which is JSON text in CSV and parquet; {} for anything else."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    return dict(value) if isinstance(value, Mapping) else {}


def to_json(value: object, field: str) -> str:
    """Serialise a value as JSON text that can be encoded as UTF-8; raise RowError where that fails."""
    try:
        return require_text(json.dumps(value, ensure_ascii=False, allow_nan=False), field)
    except (TypeError, ValueError, RecursionError):
        raise RowError("wrong_type", field) from None
