"""Rows are read with their place; whatever is wrong with a file is one line for the user."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harken.data import files
from harken.errors import UserError

ROWS = [{"prompt": "a"}, {"prompt": "b"}, {"prompt": "ü\u2028c"}]


def lines(rows: list[dict]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def fails(path: object) -> UserError:
    with pytest.raises(UserError) as caught:
        files.read_source_rows(str(path), "train")
    assert "\n" not in str(caught.value)
    return caught.value


def test_jsonl_plain_gzipped_and_with_a_byte_order_mark(tmp_path: Path):
    plain, packed, marked = tmp_path / "a.jsonl", tmp_path / "a.jsonl.gz", tmp_path / "b.jsonl"
    plain.write_text(lines(ROWS), encoding="utf-8")
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    marked.write_bytes(b"\xef\xbb\xbf" + plain.read_bytes().replace(b"\n", b"\r\n"))
    for file in (plain, packed, marked):
        assert files.read_source_rows(str(file), "train") == [
            (f"{file}:{i}", row) for i, row in enumerate(ROWS, 1)
        ]


def test_blank_lines_keep_the_numbering_of_the_file(tmp_path: Path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"a": 1}\n\n  \n{"a": 2}')
    assert [where for where, _ in files.read_source_rows(str(file), "train")] == [f"{file}:1", f"{file}:4"]


def test_json_array_and_parquet(tmp_path: Path):
    array, table = tmp_path / "a.json", tmp_path / "a.parquet"
    array.write_text(json.dumps(ROWS, indent=1))
    pq.write_table(pa.Table.from_pylist(ROWS), table)
    for file in (array, table):
        assert [row for _, row in files.read_source_rows(str(file), "train")] == ROWS


def test_broken_json_names_its_line_and_stops(tmp_path: Path):
    file = tmp_path / "a.jsonl"
    file.write_text(lines(ROWS * 2) + '{"prompt": "cut of\n' + lines(ROWS))
    error = fails(file)
    assert error.where == f"{file}:7" and "not JSON" in error.what and error.fix


@pytest.mark.parametrize(
    "content", [b'{"a": "\xff"}', b'{"a": ' + b"[" * 100_000, b'{"a": 1' + b"0" * 5000 + b"}", b"\x00"]
)
def test_damaged_content_is_a_user_error(tmp_path: Path, content: bytes):
    file = tmp_path / "a.jsonl"
    file.write_bytes(content)
    assert fails(file).where == f"{file}:1"


def test_truncated_gzip_is_a_user_error(tmp_path: Path):
    file = tmp_path / "a.jsonl.gz"
    file.write_bytes(gzip.compress(lines(ROWS * 100).encode())[:-20])
    assert fails(file).where == str(file)


def test_broken_parquet_is_a_user_error(tmp_path: Path):
    file = tmp_path / "a.parquet"
    file.write_bytes(b"PAR1 no")
    assert "parquet" in fails(file).what


def test_missing_file_suggests_the_nearest_names(tmp_path: Path):
    for name in ("train.jsonl", "valid.jsonl", "notes.txt"):
        (tmp_path / name).write_text("{}")
    assert "train.jsonl" in fails(tmp_path / "trian.jsonl").fix
    assert "does not exist" in fails(tmp_path / "nowhere" / "train.jsonl").fix


def test_empty_file_and_folder_are_user_errors(tmp_path: Path):
    (tmp_path / "empty.jsonl").write_text("\n")
    assert "no rows" in fails(tmp_path / "empty.jsonl").what
    (tmp_path / "other.jsonl").write_text("\n")
    assert "folder" in fails(tmp_path).what and "empty.jsonl" in fails(tmp_path).fix
    (tmp_path / "nothing").mkdir()
    assert "without rows" in fails(tmp_path / "nothing").what


def test_hub_name_that_cannot_be_reached_is_one_line():
    error = fails("harken-tests/no-such-data-set")
    assert error.where == "harken-tests/no-such-data-set" and "hub" in error.what


def test_demo_names_resolve_inside_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files.resources, "files", lambda package: tmp_path / package)
    assert "lacks its demo data" in fails("demo:prompts").what
    demo = tmp_path / "harken.data" / "demo"
    demo.mkdir(parents=True)
    (demo / "prompts.jsonl.gz").write_bytes(gzip.compress(lines(ROWS).encode()))
    assert files.read_source_rows("demo:prompts", "train")[1] == ("demo:prompts:2", ROWS[1])
    assert "demo:heldout" in fails("demo:sft").fix
