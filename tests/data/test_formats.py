"""Files in every common form: the same rows, or refused by what they are."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
import pytest

from harken.data import compressed, files
from harken.errors import UserError

ROWS = [
    {"prompt": "a, b", "chosen": "Blue\n“yes”.", "rejected": "No."},
    {"prompt": "b", "chosen": "x", "rejected": "y"},
]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
CSV = b'prompt,chosen,rejected\n"a, b","Blue\n\xe2\x80\x9cyes\xe2\x80\x9d.",No.\nb,x,y\n'


def rows(path: Path | str, split: str = "train") -> list[object]:
    return [row for _, row in files.read_source_rows(str(path), split)]


def refused(path: Path | str, split: str = "train") -> str:
    with pytest.raises(UserError) as caught:
        files.read_source_rows(str(path), split)
    assert "\n" not in str(caught.value)
    return str(caught.value)


FORMS: dict[str, bytes] = {
    "rows.jsonl": LINES,
    "rows.jsonl.gz": gzip.compress(LINES),
    "rows.jsonl.xz": lzma.compress(LINES),
    "rows.jsonl.bz2": bz2.compress(LINES),
    "misnamed.jsonl": lzma.compress(LINES),
    "rows.json": json.dumps(ROWS, indent=1).encode(),
    "wrapped.json": json.dumps({"data": ROWS}).encode(),
    "columns.json": json.dumps({name: [row[name] for row in ROWS] for name in ROWS[0]}).encode(),
    "columns_indented.json": json.dumps(
        {name: [row[name] for row in ROWS] for name in ROWS[0]}, indent=1
    ).encode(),
    "rows.csv": CSV,
    "excel.csv": b"\xef\xbb\xbf" + CSV.replace(b"\nb,", b"\r\nb,"),
    "rows.csv.gz": gzip.compress(CSV),
    "rows.tsv": CSV.replace(b"a, b", b"a; b").replace(b",", b"\t").replace(b"a; b", b"a, b"),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FORMS[name])
    assert rows(tmp_path / name) == ROWS


def test_one_object_over_several_lines_is_one_row_and_token_lists_are_no_columns(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(json.dumps(ROWS[0], indent=2))
    assert rows(tmp_path / "one.json") == [ROWS[0]]
    tokens = {"input_ids_chosen": [1, 2], "input_ids_rejected": [1, 3]}
    (tmp_path / "tokens.jsonl").write_text(json.dumps(tokens))
    assert rows(tmp_path / "tokens.jsonl") == [tokens]
    turns = {"messages": [{"role": "user", "content": "q"}], "tools": []}
    (tmp_path / "turns.jsonl").write_text(json.dumps(turns))
    assert rows(tmp_path / "turns.jsonl") == [turns]


def test_empty_cells_of_a_table_are_no_values(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt,system\nq,\n\n")
    assert rows(tmp_path / "a.csv") == [{"prompt": "q", "system": None}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"prompt,chosen\nq\n", "has 1 cells, its header 2"),
        ("a.csv", b"prompt,prompt\nq,r\n", "not a header"),
        ("a.csv", b'prompt\n"open\n', "not CSV"),
        ("a.csv", b"prompt\n\xff\n", "UTF-8"),
        ("a.json", b'{"a": ["x", "y"], "b": ["z"]}', "different lengths"),
        ("a.jsonl.zst", b"\x28\xb5\x2f\xfd1234", "zstandard"),
        ("a.zip", b"PK\x03\x041234", "zip"),
        ("a.jsonl.xz", lzma.compress(LINES * 50)[:-30], "cannot be read"),
        ("a.jsonl.bz2", bz2.compress(LINES * 50)[:-30], "cannot be read"),
        ("a.arrow", b"ARROW1\x00\x00nothing", "Arrow"),
    ],
)
def test_unreadable_formats_are_refused_by_kind(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert message in refused(tmp_path / name)


def shard(folder: Path, name: str, row: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(row) + "\n")


def test_a_pattern_and_a_folder_of_shards_are_one_data_set(tmp_path: Path) -> None:
    for number, row in enumerate(ROWS):
        shard(tmp_path / "shards", f"train-0000{number}-of-00002.jsonl", row)
    assert rows(tmp_path / "shards") == rows(tmp_path / "shards" / "train-*.jsonl") == ROWS
    assert files.read_source_rows(str(tmp_path / "shards"), "train")[1][0].endswith(
        "train-00001-of-00002.jsonl:1"
    )
    assert "no file matches" in refused(tmp_path / "shards" / "test-*.jsonl")


def test_a_folder_with_splits_is_read_by_the_split_that_is_asked_for(tmp_path: Path) -> None:
    shard(tmp_path / "set" / "data", "train-00000-of-00001.jsonl", ROWS[0])
    shard(tmp_path / "set" / "data", "valid-00000-of-00001.jsonl", ROWS[1])
    assert rows(tmp_path / "set") == [ROWS[0]]
    assert rows(tmp_path / "set", "validation") == [ROWS[1]]
    assert "has no split 'test'" in refused(tmp_path / "set", "test")
    shard(tmp_path / "mixed", "prompts.jsonl", ROWS[0])
    shard(tmp_path / "mixed", "pairs.jsonl", ROWS[1])
    message = refused(tmp_path / "mixed")
    assert "different names" in message and "pairs.jsonl, prompts.jsonl" in message


def test_folders_of_save_to_disk_are_read(tmp_path: Path) -> None:
    """`save_to_disk`: streams of Arrow, a folder a split."""
    table = pa.Table.from_pylist(ROWS)
    for split in ("train", "test"):
        (tmp_path / "saved" / split).mkdir(parents=True)
        with pa.ipc.new_stream(
            str(tmp_path / "saved" / split / "data-00000-of-00001.arrow"), table.schema
        ) as sink:
            sink.write_table(table)
        for about in ("dataset_info.json", "state.json"):
            (tmp_path / "saved" / split / about).write_text("{}")
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert (
        rows(tmp_path / "saved")
        == rows(tmp_path / "saved", "test")
        == rows(tmp_path / "saved" / "train")
        == ROWS
    )
    assert "has no split 'dev'" in refused(tmp_path / "saved", "dev")
    with pa.OSFile(str(tmp_path / "rows.arrow"), "wb") as out, pa.ipc.new_file(out, table.schema) as sink:
        sink.write_table(table)
    assert rows(tmp_path / "rows.arrow") == ROWS


def test_standard_input_and_pipes_are_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    message: list[str] = []
    reader = threading.Thread(
        target=lambda: message.extend([refused(tmp_path / "pipe"), refused("-")]), daemon=True
    )
    reader.start()
    reader.join(10)
    assert "a pipe" in message[0] and "standard input" in message[1]


def test_a_small_file_that_unpacks_to_a_large_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compressed, "MAX_BYTES", 8 * 1024**2)
    for name, pack in (
        ("a.jsonl.gz", gzip.compress),
        ("a.jsonl.xz", lzma.compress),
        ("a.jsonl.bz2", bz2.compress),
    ):
        (tmp_path / name).write_bytes(pack(b" " * 9 * 1024**2))
        assert "more than 8 MiB" in refused(tmp_path / name)
