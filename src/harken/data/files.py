"""Rows with their place, from a JSONL(.gz), JSON or parquet file, the package's demo data, or the hub."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from difflib import get_close_matches
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import pyarrow
import pyarrow.parquet

from harken.errors import UserError

Numbered = tuple[str, object]
"""Where a row stands, and what stands there."""

DEMO = ("preferences", "prompts", "heldout")
ONE_A_LINE = "Write one JSON object a line, or one JSON array of them"
MEND_JSON = "Mend or remove it; rows are one JSON object a line, or one JSON array of them"
_PARQUET = b"PAR1"
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_SUFFIXES = (".jsonl", ".json", ".jsonl.gz", ".json.gz", ".parquet")


def read_rows(path: str, split: str) -> list[Numbered]:
    """Every row of a source, in order. `split` names the split of a hub data set.

    Raises UserError for a source that is missing, empty, a folder, unreachable or damaged: a file with a
    broken line is refused as a whole, because nobody can say what else is wrong with it.
    """
    if path.startswith("demo:"):
        rows = list(_json_lines(_demo(path), path))
    else:
        file = Path(path).expanduser()
        if file.is_dir():
            raise UserError("this is a folder", where=path, mend=f"Name a file in it{_some_files(file)}")
        if file.is_file():
            rows = list(_parquet(file) if _is_parquet(file, path) else _json_lines(file, path))
        elif _HUB_NAME.fullmatch(path) and not path.endswith(_SUFFIXES) and not file.parent.is_dir():
            rows = list(_hub(path, split))
        else:
            raise _missing(file, path)
    if not rows:
        raise UserError("there are no rows in it", where=path, mend=ONE_A_LINE)
    return rows


def _demo(path: str) -> Traversable:
    name = path.removeprefix("demo:")
    if name not in DEMO:
        raise UserError(
            "there is no such demo data",
            where=path,
            mend=f"Use demo:{', demo:'.join(DEMO[:-1])} or demo:{DEMO[-1]}",
        )
    file = resources.files("harken.data") / "demo" / f"{name}.jsonl.gz"
    if not file.is_file():
        raise UserError("this installation lacks its demo data", where=path, mend="Install harken again")
    return file


def _json_lines(file: Path | Traversable, path: str) -> Iterator[Numbered]:
    """One object a line (blank lines are skipped) or one JSON array; gzipped or not, whatever its name."""
    try:
        content = file.read_bytes()
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(
            f"cannot be read ({error})", where=path, mend="If it was copied or downloaded, do that again"
        ) from error
    content = content.removeprefix(b"\xef\xbb\xbf")
    if content.lstrip().startswith(b"["):
        items = _parse(content, path)
        assert isinstance(items, list)
        yield from ((f"{path}:item {i}", item) for i, item in enumerate(items, start=1))
        return
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            yield f"{path}:{number}", _parse(line, f"{path}:{number}")


def _parse(content: bytes, where: str) -> object:
    try:
        return json.loads(content.decode())
    except UnicodeDecodeError as error:
        raise UserError(
            f"not UTF-8 text ({error.reason} at byte {error.start})",
            where=where,
            mend="Save the file as UTF-8",
        ) from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise UserError(
            f"not JSON: {error.msg} ({place}character {error.colno})", where=where, mend=MEND_JSON
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"not JSON that can be read: {error}", where=where, mend=MEND_JSON) from error


def _is_parquet(file: Path, path: str) -> bool:
    """By its name or its first bytes."""
    try:
        with file.open("rb") as opened:
            return file.suffix == ".parquet" or opened.read(len(_PARQUET)) == _PARQUET
    except OSError as error:
        raise UserError(
            f"cannot be read ({error.strerror})", where=path, mend="Check who may read it, or copy it again"
        ) from error


def _parquet(file: Path) -> Iterator[Numbered]:
    try:
        # The file itself, not its name: a folder called k=v on the way is no column.
        rows = pyarrow.parquet.ParquetFile(file).read().to_pylist()
    except (pyarrow.ArrowException, ArithmeticError, LookupError, OSError, ValueError) as error:
        # Dates beyond Python's, and text that is no UTF-8, are found only when rows are made.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"not a readable parquet file ({reason})", where=str(file), mend="Write or download it again"
        ) from error
    yield from ((f"{file}:row {i}", row) for i, row in enumerate(rows, start=1))


def _hub(name: str, split: str) -> Iterator[Numbered]:
    # Imported here because it takes seconds and only hub names need it.
    import datasets

    try:
        table = datasets.load_dataset(name, split=split)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"split {split!r} of this hub data set cannot be had ({reason[:200]})",
            where=name,
            mend="Check the name, the split and the connection, or download it and name the file",
        ) from error
    yield from ((f"{name}/{split}:row {i}", row) for i, row in enumerate(table, start=1))


def _missing(file: Path, path: str) -> UserError:
    folder = next((parent for parent in file.parents if parent.is_dir()), Path())
    if folder != file.parent:
        return UserError(
            "there is no such file", where=path, mend=f"The folder {file.parent} does not exist either"
        )
    names = sorted(entry.name for entry in folder.iterdir())
    near = get_close_matches(file.name, names, n=3, cutoff=0.5)
    mend = (
        f"Did you mean {' or '.join(near)}?"
        if near
        else f"The folder has nothing like it{_some_files(folder)}"
    )
    return UserError("there is no such file", where=path, mend=mend)


def _some_files(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(_SUFFIXES))
    if not names:
        return ""
    return f": {', '.join(names[:5])}{', …' if len(names) > 5 else ''}"
