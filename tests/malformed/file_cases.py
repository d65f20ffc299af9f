"""Files of rows that cannot be read at all: refused, with the file and the line."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from malformed.case import Case
from malformed.world import World

GOOD = b'{"prompt": "q", "chosen": "a", "rejected": "b"}\n'
DEEP = 100_000

BYTES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "rows.jsonl"),
    "blank lines": (b"\n \n\t\n", "rows.jsonl"),
    "a byte order mark alone": (b"\xef\xbb\xbf", "rows.jsonl"),
    "invalid UTF-8": (GOOD + b'{"prompt": "\xff\xfe"}\n', "rows.jsonl:2"),
    "UTF-8 cut within a letter": (GOOD + b'{"prompt": "\xe2\x82"}', "rows.jsonl:2"),
    "an overlong encoding": (b'{"prompt": "\xc0\xaf"}\n', "rows.jsonl:1"),
    "UTF-16": (GOOD.decode().encode("utf-16"), "rows.jsonl:1"),
    "UTF-32": (GOOD.decode().encode("utf-32"), "rows.jsonl:1"),
    "latin-1": ('{"prompt": "é"}'.encode("latin-1"), "rows.jsonl:1"),
    "a NUL in a line": (GOOD + b'{"prompt": "a\0b"}\n', "rows.jsonl:2"),
    "NULs alone": (b"\0" * 4096, "rows.jsonl:1"),
    "a control character in a text": (GOOD + b'{"prompt": "a\x1b[2J"}\n', "rows.jsonl:2"),
    "truncated": (GOOD + GOOD[:20], "rows.jsonl:2"),
    "two objects a line": (GOOD.strip() + GOOD, "rows.jsonl:1"),
    "a trailing comma": (b'{"prompt": "q",}\n', "rows.jsonl:1"),
    "single quotes": (b"{'prompt': 'q'}\n", "rows.jsonl:1"),
    "a comment": (b'// rows\n{"prompt": "q"}\n', "rows.jsonl:1"),
    "comma-separated values": (b"prompt,chosen,rejected\nq,a,b\n", "rows.jsonl:1"),
    "an indented object over lines": (b'{\n  "prompt": "q"\n}\n', "rows.jsonl:1"),
    "YAML": (b"prompt: q\nchosen: a\n", "rows.jsonl:1"),
    "HTML": (b"<!doctype html><p>404</p>", "a web page"),
    "deep nesting of lists": (b'{"prompt": ' + b"[" * DEEP + b"]" * DEEP + b"}\n", "rows.jsonl:1"),
    "deep nesting of objects": (b'{"a":' * DEEP + b"1" + b"}" * DEEP, "rows.jsonl:1"),
    "an array nested deep": (b"[" * DEEP, "rows.jsonl"),
    "an array cut short": (b'[{"prompt": "q"},\n {"prompt"', "rows.jsonl"),
    "an array and more": (b'[{"prompt": "q"}] 1', "rows.jsonl"),
    "an empty array": (b"[]", "rows.jsonl"),
    "a huge whole number": (b'{"prompt": ' + b"9" * 50_000 + b"}\n", "rows.jsonl:1"),
    "a number with leading zeros": (b'{"prompt": 007}\n', "rows.jsonl:1"),
    "hexadecimal": (b'{"prompt": 0x10}\n', "rows.jsonl:1"),
    "an escape that is none": (b'{"prompt": "\\x41"}\n', "rows.jsonl:1"),
    "half an escape": (b'{"prompt": "\\u12"}\n', "rows.jsonl:1"),
    "a broken gzip": (gzip.compress(GOOD * 50)[:40], "rows.jsonl"),
    "gzip of broken JSON": (gzip.compress(b"{"), "rows.jsonl:1"),
    "gzip with a wrong checksum": (gzip.compress(GOOD)[:-8] + b"\0" * 8, "rows.jsonl"),
    "the magic number of gzip alone": (b"\x1f\x8b", "rows.jsonl"),
    "a zip": (b"PK\x03\x04" + b"\0" * 60, "compressed with zip"),
    "a parquet file of four bytes": (b"PAR1", "rows.jsonl"),
    "an ELF program": (b"\x7fELF" + os.urandom(64).replace(b"\n", b""), "rows.jsonl:1"),
    "a line of five megabytes that is cut": (b'{"prompt": "' + b"x" * 5_000_000, "rows.jsonl:1"),
    "only numbers": (b"1\n2\n3\n", "rows.jsonl"),
    "only texts": (b'"a"\n"b"\n', "rows.jsonl"),
    "only null": (b"null\n", "rows.jsonl"),
    "only lists": (b'[["a"], ["b"]]', "rows.jsonl"),
    "objects without fields": (b"{}\n{}\n", "rows.jsonl"),
    "unknown fields": (b'{"colour": "red"}\n', "colour"),
    "fields that steer a terminal": (b'{"\\u001b[2J\\u001b]0;x\\u0007": 1}\n', "rows.jsonl"),
    "a thousand unknown fields": (json.dumps({f"k{i}": i for i in range(1000)}).encode(), "rows.jsonl"),
    "a field name of a megabyte": (json.dumps({"k" * 1_000_000: 1}).encode(), "rows.jsonl"),
}
STAGES = ("sft", "reward", "ppo")


def train(world: World, kind: str, folder: Path, data: str, *sets: str) -> list[str]:
    """The command that trains a stage for a step on other rows."""
    stage = {"sft": "01_sft", "reward": "02_rm", "ppo": "03_ppo"}[kind]
    config = str(world.pipeline / stage / "config.yml")
    words = ["train", "--preset", config, "--output-dir", str(folder / "out"), "--set", f"data.path={data}"]
    return words + [part for text in sets for part in ("--set", text)]


def _bytes(content: bytes, verb: str) -> Callable[[World, Path], list[str]]:
    def make(world: World, folder: Path) -> list[str]:
        path = folder / "rows.jsonl"
        path.write_bytes(content)
        return ["data", str(path)] if verb == "data" else train(world, verb, folder, str(path))

    return make


def _parquet(corrupt: Callable[[Path], object]) -> Callable[[World, Path], list[str]]:
    def make(_: World, folder: Path) -> list[str]:
        path = folder / "rows.parquet"
        corrupt(path)
        return ["data", str(path)]

    return make


def _table(**columns: pa.Array) -> Callable[[Path], object]:
    return lambda path: pq.write_table(pa.table(columns), path)


def _cut(path: Path) -> None:
    pq.write_table(pa.table({"prompt": ["q"] * 100}), path)
    path.write_bytes(path.read_bytes()[:-30])


def _flipped(path: Path) -> None:
    pq.write_table(pa.table({"prompt": [f"question {i}" for i in range(100)]}), path)
    content = bytearray(path.read_bytes())
    content[10:40] = b"\xff" * 30
    path.write_bytes(bytes(content))


NOT_TEXT = pa.Array.from_buffers(
    pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")]
)
PARQUET: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_bytes(GOOD),
    "cut short": _cut,
    "flipped bytes": _flipped,
    "no rows": _table(prompt=pa.array([], pa.string())),
    "no columns": lambda path: pq.write_table(pa.table({}), path),
    "a column of numbers": _table(prompt=pa.array([1, 2])),
    "a column of bytes": _table(prompt=pa.array([b"\xff"], pa.binary())),
    "a date beyond Python's": _table(prompt=pa.array([2**62], pa.timestamp("us"))),
    "a time of day in nanoseconds": _table(prompt=pa.array([1], pa.time64("ns"))),
    "text that is not UTF-8": _table(prompt=NOT_TEXT),
    "a footer of nonsense": lambda path: path.write_bytes(b"PAR1" + b"\xff" * 64 + b"\x40\0\0\0PAR1"),
    "a footer longer than the file": lambda path: path.write_bytes(b"PAR1" + b"\xff\xff\xff\x7f" + b"PAR1"),
}
USABLE = {"a column of numbers", "a column of bytes", "a time of day in nanoseconds"}
"""These can be read; it is their rows that are dropped."""


def _named(path: str) -> Callable[[World, Path], list[str]]:
    return lambda world, folder: ["data", path.format(root=world.root, tmp=folder)]


def _hidden(_: World, folder: Path) -> list[str]:
    path = folder / "rows.jsonl"
    path.write_bytes(GOOD)
    path.chmod(0)
    return ["data", str(path)]


PATHS: dict[str, tuple[str, str]] = {
    "a folder": ("{root}", "folder"),
    "the empty name": ("", "folder"),
    "a file that is not there": ("{root}/pears.jsonl", "pairs.jsonl"),
    "a folder that is not there": ("{root}/none/rows.jsonl", "none"),
    "a name of 5,000 letters": ("{root}/" + "x" * 5000, "File name too long"),
    "a file taken for a folder": ("{root}/pairs.jsonl/rows.jsonl", "pairs.jsonl"),
    "a device without end": ("/dev/zero", "/dev/zero"),
    "a file whose reading fails": ("/proc/self/mem", "/proc/self/mem"),
    "a NUL": ("{root}/a\0b.jsonl", "no such file"),
    "a name that is not text": ("{root}/a\udcffb.jsonl", "no such file"),
    "demo data that are none": ("demo:nothing", "demo:nothing"),
    "a hub data set out of reach": ("nobody/nothing", "nobody/nothing"),
}


def cases() -> list[Case]:
    found = []
    for number, (name, (content, named)) in enumerate(BYTES.items()):
        found.append(Case(f"file, {name}, data", _bytes(content, "data"), (named,)))
        stage = STAGES[number % 3]
        found.append(Case(f"file, {name}, train {stage}", _bytes(content, stage), (named,)))
    unusable = _bytes(b'{"prompt": ""}\n{"prompt": null}\n', "ppo")
    found.append(Case("file, not one usable row", unusable, ("rows.jsonl:1",)))
    for name, corrupt in PARQUET.items():
        if name in USABLE:
            shown = ("rows.parquet:row 1", "0 kept")
            found.append(Case(f"parquet, {name}", _parquet(corrupt), code=0, shown=shown))
        else:
            found.append(Case(f"parquet, {name}", _parquet(corrupt), ("rows.parquet",)))
    found += [Case(f"path, {name}", _named(path), (named,)) for name, (path, named) in PATHS.items()]
    if os.getuid():
        found.append(Case("path, a file that may not be read", _hidden, ("rows.jsonl",)))
    return found
