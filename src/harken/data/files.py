"""Read rows with their locations from files, folders of shards, the package's demo data, or the Hugging Face hub."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import pyarrow
import pyarrow.ipc
import pyarrow.parquet

from harken.data import folders
from harken.data.compressed import read_decompressed
from harken.data.formats import LocatedRow, parse_rows
from harken.errors import UserError, describe_exception, third_party_errors

DEMO = ("preferences", "prompts", "heldout", "sycophancy", "sycophancy_train")
FIX_EMPTY = "write one JSON object per line, or one JSON array of them"
FIX_HUB = "check the name, the split and the connection, or download it and name the file"
_PARQUET, _ARROW = b"PAR1", b"ARROW1"
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def read_source_rows(path: str, split: str) -> list[LocatedRow]:
    """Read all rows of a source, in order. `split` names the split of a hub data set, or of a folder with several.

    A folder or a pattern is read as shards. Raises UserError for a source that is missing, empty, a pipe, unreachable
    or damaged: a file with one invalid line is refused as a whole, because the rest of it cannot be trusted.
    """
    rows = list(_rows(path, split))
    if not rows:
        raise UserError("there are no rows in it", where=path, fix=FIX_EMPTY)
    return rows


def class_names(path: str, split: str, column: str) -> list[str]:
    """Return the names that a data set declares for the integers of a column (`ClassLabel`); [] if it declares none.

    They are in the schema of a Parquet or Arrow file that `datasets` wrote, and in the features of a hub data set.
    """
    file = Path(path).expanduser()
    if not file.exists() and not folders.is_pattern(path) and _HUB_NAME.fullmatch(path):
        import datasets

        with third_party_errors("this hub data set cannot be loaded", path, FIX_HUB):
            feature = datasets.load_dataset(path, split=split).features.get(column)
        return list(getattr(feature, "names", None) or [])
    if file.is_dir():
        shards = list(folders.shards(file, split, path))
    else:
        shards = list(folders.match_pattern(path)) if folders.is_pattern(path) else [file]
    return _declared_names(shards[0], column) if shards[0].suffix in (".parquet", ".arrow") else []


def _declared_names(file: Path, column: str) -> list[str]:
    """Read the names from the metadata that `datasets` writes into a schema."""
    with third_party_errors("its schema cannot be read", str(file), "write or download it again"):
        if file.suffix == ".parquet":
            schema = pyarrow.parquet.read_schema(file)
        else:
            with pyarrow.memory_map(str(file)) as source:
                is_file = source.read(len(_ARROW)) == _ARROW
                source.seek(0)
                schema = (pyarrow.ipc.open_file if is_file else pyarrow.ipc.open_stream)(source).schema
    try:
        metadata = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        names = metadata["info"]["features"][column]["names"]
    except (KeyError, TypeError, ValueError):
        return []
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _rows(path: str, split: str) -> Iterator[LocatedRow]:
    if path.startswith("demo:"):
        return parse_rows(read_decompressed(_demo(path), path), path)
    file = Path(path).expanduser()
    if path == "-" or (file.exists() and not file.is_file() and not file.is_dir()):
        kind = "standard input" if path == "-" else "a pipe or a device"
        raise UserError(
            f"this is {kind}, and rows are read again when a run resumes",
            where=path,
            fix="save the rows to a file first, and name it",
        )
    if file.is_dir():
        return _files(folders.shards(file, split, path))
    if file.is_file():
        return _file(file, path)
    if folders.is_pattern(path):
        return _files(folders.match_pattern(path))
    if _HUB_NAME.fullmatch(path) and not path.endswith(folders.SUFFIXES) and not file.parent.is_dir():
        return _hub(path, split)
    raise _missing(file, path)


def _files(files: Sequence[Path]) -> Iterator[LocatedRow]:
    for file in files:
        yield from _file(file, str(file))


def _file(file: Path, path: str) -> Iterator[LocatedRow]:
    try:
        with file.open("rb") as opened:
            head = opened.read(8)
    except OSError as error:
        raise UserError(
            f"cannot be read ({error.strerror})", where=path, fix="check its permissions, or copy it again"
        ) from error
    if file.suffix == ".parquet" or head.startswith(_PARQUET):
        return _parquet(file)
    if file.suffix == ".arrow" or head.startswith(_ARROW):
        return _arrow(file, head.startswith(_ARROW))
    return parse_rows(read_decompressed(file, path), path)


def _demo(path: str) -> Traversable:
    name = path.removeprefix("demo:")
    if name not in DEMO:
        raise UserError(
            "there is no such demo data",
            where=path,
            fix=f"use demo:{', demo:'.join(DEMO[:-1])} or demo:{DEMO[-1]}",
        )
    file = resources.files("harken.data") / "demo" / f"{name}.jsonl.gz"
    if not file.is_file():
        raise UserError("this installation lacks its demo data", where=path, fix="install the package again")
    return file


def _parquet(file: Path) -> Iterator[LocatedRow]:
    # Dates out of Python's range and invalid UTF-8 are detected only when rows are converted.
    with third_party_errors("not a readable parquet file", str(file), "Write or download it again"):
        # ParquetFile, not read_table: a parent folder named k=v must not become a column.
        rows = pyarrow.parquet.ParquetFile(file).read().to_pylist()
    yield from ((f"{file}:row {i}", row) for i, row in enumerate(rows, start=1))


def _arrow(file: Path, seekable: bool) -> Iterator[LocatedRow]:
    """Read an Arrow file, or the Arrow stream that `datasets` saves."""
    try:
        with pyarrow.memory_map(str(file)) as source:
            reader = pyarrow.ipc.open_file(source) if seekable else pyarrow.ipc.open_stream(source)
            rows = reader.read_all().to_pylist()
    except (pyarrow.ArrowException, ArithmeticError, LookupError, OSError, ValueError) as error:
        reason = describe_exception(error)
        raise UserError(
            f"not a readable Arrow file ({reason})", where=str(file), fix="write or download it again"
        ) from error
    yield from ((f"{file}:row {i}", row) for i, row in enumerate(rows, start=1))


def _hub(name: str, split: str) -> Iterator[LocatedRow]:
    # Imported here because the import takes seconds and only hub names need it.
    import datasets

    fix = FIX_HUB
    with third_party_errors(f"split {split!r} of this hub data set cannot be loaded", name, fix):
        table = iter(datasets.load_dataset(name, split=split))
    for row_number in itertools.count(1):
        with third_party_errors(
            f"row {row_number} of this hub data set cannot be read", f"{name}/{split}", fix
        ):
            row = next(table, None)
        if row is None:
            return
        yield f"{name}/{split}:row {row_number}", row


def _missing(file: Path, path: str) -> UserError:
    folder = next((parent for parent in file.parents if parent.is_dir()), Path())
    if folder != file.parent:
        return UserError(
            "there is no such file",
            where=path,
            fix=f"correct the path: the folder {file.parent} does not exist either",
        )
    names = sorted(entry.name for entry in folder.iterdir())
    near = get_close_matches(file.name, names, n=3, cutoff=0.5)
    fix = (
        f"write {' or '.join(near)}"
        if near
        else f"name another file: the folder has nothing like it{_some_files(folder)}"
    )
    return UserError("there is no such file", where=path, fix=fix)


def _some_files(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(folders.SUFFIXES))
    if not names:
        return ""
    return f": {', '.join(names[:5])}{', …' if len(names) > 5 else ''}"
