"""JSON that a run wrote, read back whole and in the shape it was written in, or refused in one line. No torch.

A file may have been cut short, edited, or be another program's: nothing in it is believed before it was looked at.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel, ConfigDict, ValidationError

from harken.errors import UserError
from harken.run import bounded, checksums

RESTORE = "restore the file"


class Schema(BaseModel):
    """What a stored value has to hold at least. Further keys may stand beside these."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


def read_object(path: Path, fix: str = RESTORE) -> dict[str, Any]:
    """The JSON object in a file. Raises UserError when the file cannot be read, or holds anything else."""
    return parse_object(_content(path, fix), str(path), fix)


def read_list(path: Path, fix: str = RESTORE) -> list[Any]:
    """The JSON array in a file. Raises UserError as `read_object` does."""
    value = _parse(_content(path, fix), str(path), fix)
    if not isinstance(value, list):
        raise UserError("is not a JSON array", where=str(path), fix=fix)
    return value


def read_lines(path: Path, fix: str = RESTORE) -> list[tuple[str, dict[str, Any]]]:
    """The objects of a JSONL file, each with its place. A last line that was cut short is left out.

    Raises UserError, naming the line, for one that is no JSON object.
    """
    lines = _content(path, fix, bounded.MAX_LINES).split(b"\n")[:-1]
    places = [f"{path}:{number}" for number in range(1, len(lines) + 1)]
    return [(where, parse_object(line, where, fix)) for where, line in zip(places, lines, strict=True)]


def validate(value: object, shape: type[Schema], where: str, fix: str = RESTORE) -> None:
    """Raise UserError, naming the first key at fault, when `value` does not have a shape."""
    try:
        shape.model_validate(value)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        key = ".".join(map(str, fault["loc"]))
        what = fault["msg"].removeprefix("Input ")
        raise UserError(what, where=f"{where}: {key}" if key else where, fix=fix) from None


def parse_object(content: bytes, where: str, fix: str = RESTORE) -> dict[str, Any]:
    """The JSON object that `content` is. Raises UserError for anything else."""
    value = _parse(content, where, fix)
    if not isinstance(value, dict):
        raise UserError("is not a JSON object", where=where, fix=fix)
    return value


def _content(path: Path, fix: str, largest: int = bounded.MAX_OBJECT) -> bytes:
    checksums.verify_file(path)
    try:
        return bounded.read_bytes(path, largest)
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", where=str(path), fix=fix) from error


def _parse(content: bytes, where: str, fix: str) -> Any:
    try:
        return json.loads(content.decode(), parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise UserError(f"is not JSON ({error})", where=where, fix=fix) from error


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large a number")
    return number
