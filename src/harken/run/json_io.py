"""Read and validate JSON files of a run; an invalid file raises one UserError.

A file may be truncated, edited or written by another program, so everything is validated before use.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel, ConfigDict, ValidationError

from harken.errors import UserError
from harken.run import bounded_read, checksums

RESTORE = "restore the file"


class Schema(BaseModel):
    """Describe the required keys of a stored value. Further keys are allowed."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


def read_object(path: Path, fix: str = RESTORE) -> dict[str, Any]:
    """Read a file with one JSON object. Raises UserError if it cannot be read or contains anything else."""
    return parse_object(_content(path, fix), str(path), fix)


def read_list(path: Path, fix: str = RESTORE) -> list[Any]:
    """Read a file with one JSON array. Raises UserError as `read_object` does."""
    value = _parse(_content(path, fix), str(path), fix)
    if not isinstance(value, list):
        raise UserError("is not a JSON array", where=str(path), fix=fix)
    return value


def read_lines(path: Path, fix: str = RESTORE) -> list[tuple[str, dict[str, Any]]]:
    """Read the objects of a JSONL file, each with its location. An incomplete last line is skipped.

    Raises UserError, naming the line, for a line that is not a JSON object.
    """
    lines = _content(path, fix, bounded_read.MAX_LINES).split(b"\n")[:-1]
    places = [f"{path}:{line}" for line in range(1, len(lines) + 1)]
    return [(where, parse_object(line, where, fix)) for where, line in zip(places, lines, strict=True)]


def validate(value: object, schema: type[Schema], where: str, fix: str = RESTORE) -> None:
    """Raise UserError, naming the first wrong key, if `value` does not fit a schema."""
    try:
        schema.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        problem = first["msg"].removeprefix("Input ")
        raise UserError(problem, where=f"{where}: {key}" if key else where, fix=fix) from None


def parse_object(content: bytes, where: str, fix: str = RESTORE) -> dict[str, Any]:
    """Parse a JSON object. Raises UserError for anything else."""
    value = _parse(content, where, fix)
    if not isinstance(value, dict):
        raise UserError("is not a JSON object", where=where, fix=fix)
    return value


def _content(path: Path, fix: str, max_bytes: int = bounded_read.MAX_OBJECT) -> bytes:
    checksums.verify_file(path)
    try:
        return bounded_read.read_bytes(path, max_bytes)
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", where=str(path), fix=fix) from error


def _parse(content: bytes, where: str, fix: str) -> Any:
    try:
        return json.loads(content.decode(), parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise UserError(f"is not JSON ({error})", where=where, fix=fix) from error


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large a number")
    return value
