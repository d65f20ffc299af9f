"""What a run wrote is read back in the shape it was written in, or refused with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from harken.errors import UserError
from harken.run import json_io


class Schema(json_io.Schema):
    name: str
    rate: float


@pytest.mark.parametrize(
    ("content", "reported"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"[]", "is not a JSON object"),
        (b"\xff{}", "is not JSON"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": -Infinity}', "-Infinity is not a JSON number"),
        (b'{"a": 1e999}', "1e999 is too large"),
        (b'{"a":' * 50_000, "is not JSON"),
        (b'{"a": ' + b"9" * 9000 + b"}", "is not JSON"),
    ],
)
def test_json_that_is_no_object_is_refused(content: bytes, reported: str, tmp_path: Path) -> None:
    path = tmp_path / "stored.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=reported) as refused:
        json_io.read_object(path)
    assert refused.value.where == str(path) and refused.value.fix


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(UserError, match="cannot be read"):
            json_io.read_object(path)


def test_lines_have_their_place_and_a_torn_one_is_left_out(tmp_path: Path) -> None:
    """A letter that ends a line elsewhere ends none here."""
    path = tmp_path / "lines.jsonl"
    path.write_text('{"a\u2028b": 1}\n{"a": 2}\n{"a"', encoding="utf-8")
    assert json_io.read_lines(path) == [(f"{path}:1", {"a\u2028b": 1}), (f"{path}:2", {"a": 2})]
    path.write_text('{"a": 1}\noops\n')
    with pytest.raises(UserError, match=r"lines\.jsonl:2: is not JSON"):
        json_io.read_lines(path)


@pytest.mark.parametrize(
    ("value", "reported"),
    [
        ({"rate": 1.0}, "here: name: Field required"),
        ({"name": "x", "rate": "1"}, "here: rate: should be a valid number"),
        ({"name": "x", "rate": float("inf")}, "here: rate: should be a finite number"),
        ({"name": 3, "rate": 1.0}, "here: name: should be a valid string"),
    ],
)
def test_a_value_of_the_wrong_type_is_named_by_its_key(value: dict[str, object], reported: str) -> None:
    json_io.validate({"name": "x", "rate": 1, "more": []}, Schema, "here")
    with pytest.raises(UserError) as refused:
        json_io.validate(value, Schema, "here")
    assert str(refused.value).startswith(reported)
