"""Sources without bounds: what unpacks without end, texts without end, files that hold no rows."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from pathlib import Path

import pytest

from harken.config.base import DataConfig
from harken.data import compressed, files, parse, sources
from harken.data.report import DataReport
from harken.errors import UserError

ROW = b'{"prompt": "q", "chosen": "a", "rejected": "b"}\n'


def refused(file: Path) -> str:
    with pytest.raises(UserError) as caught:
        files.read_source_rows(str(file), "train")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_bomb_is_refused_long_before_the_limit(tmp_path: Path, pack, monkeypatch: pytest.MonkeyPatch):
    """8 MB of zeros in kilobytes, from 1 MB on: neither memory nor time goes to the rest."""
    (tmp_path / "rows.jsonl").write_bytes(pack(b"\0" * (8 << 20)))
    monkeypatch.setattr(compressed, "RATIO_CHECK_BYTES", 1 << 20)
    message = refused(tmp_path / "rows.jsonl")
    assert (
        "decompresses to more than 200 times its size (2 MB from" in message
        and "name the decompressed file" in message
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x04\x95....", "this is a pickle"),
        (b"SQLite format 3\0", "this is an SQLite database"),
        (b"version https://git-lfs.github.com/spec/v1\n", "this is a Git LFS pointer"),
        (b"\n<!DOCTYPE html><p>", "this is a web page"),
        (gzip.compress(b"x" * 257 + b"ustar"), "this is a tar archive"),
        (gzip.compress(gzip.compress(ROW)), "this is a compressed file in a compressed file"),
    ],
    ids=["pickle", "SQLite", "LFS pointer", "web page", "tar", "packed twice"],
)
def test_files_without_rows_are_refused_by_kind(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "rows.jsonl").write_bytes(content)
    assert message in refused(tmp_path / "rows.jsonl")


def test_a_text_far_beyond_the_token_limit_is_dropped_before_it_is_tokenised(tmp_path: Path):
    """Five megabytes took a tokenizer a minute, in silence, to be dropped or cut."""
    good = {"prompt": "q", "chosen": "a", "rejected": "b"}
    long = "x " * 600_000
    rows = [good, good | {"prompt": long}, good | {"chosen": long}, good | {"rejected": long}]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs, report = parse.parse_preference_rows(DataConfig(path=str(file)))
    assert len(pairs) == 1 and report.dropped == {"text_too_long": 3}
    assert [r.where for r in report.dropped_rows] == [f"{file}:{i}" for i in (2, 3, 4)]
    assert (
        len(parse.parse_demonstration_rows(DataConfig(path=str(file)))[0]) == 2
    )  # the rejected side is not read for it
    assert len(parse.parse_preference_rows(DataConfig(path=str(file), max_length=20_000))[0]) == 4


def test_a_folder_has_splits(tmp_path: Path):
    """As a downloaded data set lies on disk: one split trains, the other is held out."""
    for split, marks in (("train", "abc"), ("validation", "xy")):
        text = "".join(json.dumps({"prompt": m, "chosen": "a", "rejected": "b"}) + "\n" for m in marks)
        (tmp_path / f"{split}.jsonl").write_text(text)
    data = DataConfig(path=str(tmp_path), eval_split="validation")
    train, held_out, reports = sources.load_split(data, sources.load_preferences, 1)
    assert sorted(p.prompt.last_user_message for p in train) == ["a", "b", "c"]
    assert sorted(p.prompt.last_user_message for p in held_out) == ["x", "y"]
    assert reports[1].path == f"{tmp_path}, split validation"


def test_the_short_account_tells_of_labels_and_columns():
    report = DataReport("x", notes=["labels: 0 is first"], unused=list("abcdefgh"))
    assert report.summary()[1] == "  labels: 0 is first; columns not used: a, b, c, d, e, f and 2 more"
