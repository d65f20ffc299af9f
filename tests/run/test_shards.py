"""Parts of long work: made once, read after, made again when damaged."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from harken.run import atomic
from harken.run.shards import load_or_make_shard

ROWS = [{"text": "a\u2028b\r\x85c", "numbers": [0.1, -3.5e-07, 1e300]}, 7, "é"]


def never() -> list[object]:
    raise AssertionError("it was there")


def test_a_part_is_made_once_and_read_back_equal(tmp_path: Path) -> None:
    path = tmp_path / "shards" / "a.jsonl"
    assert load_or_make_shard(path, lambda: ROWS) == ROWS
    assert load_or_make_shard(path, never) == ROWS


def test_every_flipped_byte_and_every_truncation_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.jsonl"
    load_or_make_shard(path, lambda: ROWS)
    whole, draw = path.read_bytes(), random.Random(0)
    for _ in range(200):
        place = draw.randrange(len(whole))
        path.write_bytes(
            whole[:place] + bytes([whole[place] ^ (1 << draw.randrange(8))]) + whole[place + 1 :]
        )
        assert load_or_make_shard(path, lambda: ["made again"]) == ["made again"]
    for _ in range(100):
        path.write_bytes(whole[: draw.randrange(len(whole))])
        assert load_or_make_shard(path, lambda: ["made again"]) == ["made again"]
    assert "is damaged and is computed again" in capsys.readouterr().err
    path.unlink()
    assert load_or_make_shard(path, lambda: ROWS) == ROWS
    assert path.read_bytes() == whole


def test_a_full_disk_costs_the_part_and_not_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic, "write_bytes", full)
    assert load_or_make_shard(tmp_path / "a.jsonl", lambda: ROWS) == ROWS
    assert "could not be stored" in capsys.readouterr().err
