"""Credit goes to parquet exactly, one list entry a response token, and nothing else is read."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harken.errors import UserError
from harken.records import Message, Prompt, Rollout, Score, ScoredRollout
from harken.run.credit_table import TOKEN_COLUMNS, TokenColumns, read_credit, write_credit
from harken.run.tables import write_rows

FLAGS = ("policy_mask", "value_mask")


def scored(lengths: list[tuple[int, int]]) -> list[ScoredRollout]:
    """Responses of so many prompt and response tokens, scored 0, 1, 2, …"""
    return [
        ScoredRollout(
            Rollout(
                prompt=Prompt(f"p{row}", (Message("user", "?"),)),
                sample=row % 2,
                prompt_tokens=(9,) * before,
                response_tokens=tuple(range(after)),
                sampler_logprobs=(-1.0,) * after,
                text="",
                stop="length",
                policy_version="update-0",
            ),
            (Score("rule", float(row), 0.5),),
        )
        for row, (before, after) in enumerate(lengths)
    ]


def grids(lengths: list[tuple[int, int]]) -> tuple[np.ndarray, TokenColumns]:
    """The action mask, and columns in which column c of row r holds 1000 c + 50 r + t at token t, NaN outside."""
    width = max(before + after for before, after in lengths) + 1
    response_mask = np.zeros((len(lengths), width), dtype=bool)
    for row, (before, after) in enumerate(lengths):
        response_mask[row, before : before + after] = True
    place = 50.0 * np.arange(len(lengths))[:, None] + np.arange(width)[None, :]
    columns: dict[str, Any] = {
        name: place % 2 == 0
        if name in FLAGS
        else np.where(response_mask, 1000 * number + place, np.nan).astype(np.float32)
        for number, name in enumerate(TOKEN_COLUMNS)
    }
    return response_mask, TokenColumns(**columns)


def write(
    path: Path, lengths: list[tuple[int, int]], tokens: TokenColumns | None = None
) -> list[dict[str, Any]]:
    response_mask, made = grids(lengths)
    finals = [float(row) for row in range(len(lengths))]
    write_credit(
        path, scored(lengths), response_mask, tokens or made, kl_coef=0.25, final_values=finals, step=4
    )
    return read_credit(path)


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=6))
def test_every_entry_describes_its_own_token(
    lengths: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """S0-11, property 1: entry i of a response's list is the grid's entry at prompt length + i."""
    rows = write(tmp_path_factory.mktemp("credit") / "t.parquet", lengths)
    for row, (before, after) in enumerate(lengths):
        for number, name in enumerate(TOKEN_COLUMNS):
            places = [50 * row + before + i for i in range(after)]
            want = [p % 2 == 0 for p in places] if name in FLAGS else [1000.0 * number + p for p in places]
            assert rows[row][name] == want, name


def test_scalars_are_stored_beside_the_lists(tmp_path: Path) -> None:
    rows = write(tmp_path / "t.parquet", [(2, 3), (4, 1)])
    assert [(r["prompt_id"], r["sample"], r["step"]) for r in rows] == [("p0", 0, 4), ("p1", 1, 4)]
    assert [r["score"] for r in rows] == [0.0, 0.5]  # the weighted sum: 0.5 × row
    assert [r["final_value"] for r in rows] == [0.0, 1.0]
    assert {r["kl_coefficient"] for r in rows} == {0.25}


def test_numbers_come_back_to_the_last_bit(tmp_path: Path) -> None:
    """A replay starts from what the run saw: float32, neither rounded nor widened."""
    response_mask, tokens = grids([(3, 40)])
    odd = np.random.default_rng(0).standard_normal(response_mask.shape).astype(np.float32) * np.float32(1e-3)
    rows = write(tmp_path / "t.parquet", [(3, 40)], dataclasses.replace(tokens, old_logprobs=odd))
    assert np.array_equal(np.array(rows[0]["old_logprobs"], dtype=np.float32), odd[0, 3:43])
    schema = pq.read_schema(tmp_path / "t.parquet")
    assert schema.field("old_logprobs").type == pa.list_(pa.float32())
    assert schema.field("policy_mask").type == pa.list_(pa.bool_())


def test_unmeasured_columns_are_null_and_keep_their_type(tmp_path: Path) -> None:
    _, tokens = grids([(2, 3), (1, 2)])
    path = tmp_path / "t.parquet"
    rows = write(path, [(2, 3), (1, 2)], dataclasses.replace(tokens, new_logprobs=None, values=None))
    assert all(row["new_logprobs"] is None and row["values"] is None for row in rows)
    assert pq.read_schema(path).field("new_logprobs").type == pa.list_(pa.float32())


def test_the_same_credit_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, [(2, 3), (4, 1)])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_mask_that_does_not_fit_the_responses_is_refused(tmp_path: Path) -> None:
    response_mask, tokens = grids([(2, 3)])
    for wrong in (np.roll(response_mask, 1, axis=1) | response_mask, np.zeros_like(response_mask)):
        with pytest.raises(ValueError, match="the response to 'p0' 3"):
            write_credit(
                tmp_path / "t", scored([(2, 3)]), wrong, tokens, kl_coef=0, final_values=None, step=1
            )
    narrow = dataclasses.replace(tokens, kl=np.zeros((1, 5)))
    with pytest.raises(ValueError, match="kl and response_mask have different shapes"):
        write_credit(
            tmp_path / "t",
            scored([(2, 3)]),
            response_mask,
            narrow,
            kl_coef=0,
            final_values=None,
            step=1,
        )
    assert list(tmp_path.iterdir()) == []


def test_a_missing_or_wrong_table_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="file not found"):
        read_credit(tmp_path / "none.parquet")
    write_rows(tmp_path / "t.parquet", [{"prompt_id": "p", "sample": 0}])
    with pytest.raises(UserError, match="no column advantages, "):
        read_credit(tmp_path / "t.parquet")
