"""Rollouts and rows go to parquet and come back, the same bytes every time."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harken.errors import UserError
from harken.records import Message, Prompt, Rollout, Score, ScoredRollout
from harken.run.tables import read_rows, write_rows, write_scored_rollouts


def scored(name="p1", sample=0, tokens=(5, 6, 2), scores=(("rm", 0.5, 1.0),), text="An answer."):
    prompt = Prompt(
        id=name,
        messages=(Message("system", "Be kind."), Message("user", "Früher?"), Message("assistant", "Ja."),
                  Message("user", "And «now»?")),
        domain="general",
        language="de",
    )  # fmt: skip
    rollout = Rollout(
        prompt=prompt,
        sample=sample,
        prompt_tokens=(1, 2, 3),
        response_tokens=tokens,
        sampler_logprobs=tuple(-0.1 * (i + 1) for i in range(len(tokens))),
        text=text,
        stop="end_of_turn",
        policy_version="update-3",
    )
    return ScoredRollout(rollout, tuple(Score(*part) for part in scores))


def test_a_scored_rollout_is_one_row_with_every_part(tmp_path):
    path = tmp_path / "rollouts" / "step-000003.parquet"
    rows = [
        scored(scores=(("rm", 0.5, 1.0), ("length", -2.0, 0.25))),
        scored(name="p2", sample=1, tokens=(), text="", scores=(("rm", None, 1.0), ("judge", 3.0, 2.0))),
    ]
    write_scored_rollouts(path, rows, step=3)
    first, second = read_rows(path)
    assert list(first) == [
        "prompt_id", "sample", "domain", "language", "prompt", "messages", "response", "prompt_tokens",
        "response_tokens", "sampler_logprobs", "stop", "policy_version", "step", "reward",
        "score_rm", "weight_rm", "score_length", "weight_length", "score_judge", "weight_judge",
    ]  # fmt: skip
    assert first["prompt"] == "And «now»?"
    assert json.loads(first["messages"])[1] == {"role": "user", "content": "Früher?"}
    assert (first["step"], first["sample"], first["domain"], first["language"]) == (3, 0, "general", "de")
    assert first["prompt_tokens"] == [1, 2, 3] and first["response_tokens"] == [5, 6, 2]
    assert first["sampler_logprobs"] == [float(np.float32(x)) for x in (-0.1, -0.2, -0.30000000000000004)]
    assert (first["stop"], first["policy_version"], first["response"]) == (
        "end_of_turn",
        "update-3",
        "An answer.",
    )
    assert first["reward"] == 0.5 * 1.0 + -2.0 * 0.25
    assert (first["score_length"], first["weight_length"]) == (-2.0, 0.25)
    assert (first["score_judge"], first["weight_judge"]) == (None, None)
    assert second["response_tokens"] == [] and second["score_rm"] is None and second["weight_rm"] == 1.0
    assert second["reward"] == 6.0


def test_tokens_are_int32_and_logprobs_float32_even_without_rows(tmp_path):
    for name, rows in (("full", [scored()]), ("none", [])):
        write_scored_rollouts(tmp_path / name, rows, step=1)
        schema = pq.read_schema(tmp_path / name)
        assert schema.field("prompt_tokens").type == pa.list_(pa.int32())
        assert schema.field("response_tokens").type == pa.list_(pa.int32())
        assert schema.field("sampler_logprobs").type == pa.list_(pa.float32())
    assert read_rows(tmp_path / "none") == []


def test_two_scores_of_one_source_are_refused(tmp_path):
    with pytest.raises(ValueError, match="two scores"):
        write_scored_rollouts(tmp_path / "t", [scored(scores=(("rm", 1.0, 1.0), ("rm", 2.0, 1.0)))], step=1)
    assert list(tmp_path.iterdir()) == []


def test_the_same_rows_give_the_same_bytes(tmp_path):
    rows = [scored(sample=i) for i in range(50)]
    write_scored_rollouts(tmp_path / "a", rows, step=1)
    write_scored_rollouts(tmp_path / "b", rows, step=1)
    write_scored_rollouts(tmp_path / "c", rows, step=2)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_bytes() != (tmp_path / "c").read_bytes()


def test_rows_come_back_in_order(tmp_path):
    rows = [
        {"z": "é\u2028", "a": 1, "list": [1, 2], "score": 0.1, "none": None, "flag": True},
        {"z": "", "a": -(2**60), "list": [], "score": None, "none": None, "flag": False},
    ]
    write_rows(tmp_path / "t", rows)
    back = read_rows(tmp_path / "t")
    assert back == rows
    assert list(back[0]) == list(rows[0])


def test_lists_that_are_all_empty_and_tables_without_rows(tmp_path):
    write_rows(tmp_path / "t", [{"tokens": []}, {"tokens": []}])
    assert read_rows(tmp_path / "t") == [{"tokens": []}, {"tokens": []}]
    write_rows(tmp_path / "none", [])
    assert read_rows(tmp_path / "none") == []


def test_rows_with_other_keys_or_mixed_types_are_refused(tmp_path):
    for second in ({"a": 1}, {"a": 1, "b": 2, "c": 3}):
        with pytest.raises(ValueError, match="row 1"):
            write_rows(tmp_path / "t", [{"a": 1, "b": 2}, second])
    with pytest.raises((ValueError, pa.ArrowTypeError)):
        write_rows(tmp_path / "t", [{"a": 1}, {"a": "one"}])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_named_like_a_partition_adds_no_column(tmp_path):
    path = tmp_path / "lr=0.1" / "t.parquet"
    write_rows(path, [{"a": 1}])
    assert read_rows(path) == [{"a": 1}]


def test_missing_and_damaged_tables_are_user_errors(tmp_path):
    with pytest.raises(UserError, match="file not found"):
        read_rows(tmp_path / "nothing.parquet")
    path = tmp_path / "t.parquet"
    write_rows(path, [{"text": f"row {i}"} for i in range(200)])
    good = path.read_bytes()
    path.write_bytes(good[:-10])
    with pytest.raises(UserError, match="not a readable"):
        read_rows(path)


@pytest.mark.parametrize("columns", [["number"], ["number", "text", "list"]])
def test_a_flipped_byte_in_the_data_never_changes_a_value(tmp_path, columns):
    """Every third byte of pages and their headers: an error, or the same values."""
    path = tmp_path / "t.parquet"
    whole = [{"number": i * 0.37, "text": f"r{i % 7}", "list": [i] * (i % 3)} for i in range(120)]
    write_rows(path, [{name: row[name] for name in columns} for row in whole])
    good = path.read_bytes()
    footer = len(good) - 8 - int.from_bytes(good[-8:-4], "little")
    rows = read_rows(path)
    found = 0
    for offset in range(0, footer, 3):
        path.write_bytes(good[:offset] + bytes([good[offset] ^ 0x10]) + good[offset + 1 :])
        try:
            assert read_rows(path) == rows, offset
        except UserError:
            found += 1
    assert found > footer / 3 / 2
