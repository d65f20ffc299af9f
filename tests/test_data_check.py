"""`harken data`: what rows hold, and what a token limit costs, counted by hand over a tokenizer of bytes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import save_tiny

from harken.config.base import DataConfig
from harken.data_check import check_data, format_quantiles, infer_task


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny(tmp_path_factory.mktemp("model"))


def written(path: Path, rows: list[dict[str, object]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def prompt_tokens(text: str) -> int:
    """A token a byte, and one each for the start (S) and end (E) of a turn in the ChatML of `tiny`."""
    return len("Suser\n") + len(text) + len("E\n") + len("Sassistant\n")


@pytest.mark.parametrize(
    ("row", "task"),
    [
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, "preference"),
        ({"input_ids_chosen": [1, 2], "input_ids_rejected": [1, 3]}, "preference"),
        ({"prompt": "q", "response_a": "a", "response_b": "b", "label": "A"}, "preference"),
        ({"prompt": "q", "response": "a"}, "sft"),
        ({"text": "q\na"}, "sft"),
        ({"prompt": "q"}, "prompt_only"),
        ({"turns": ["q"]}, "prompt_only"),
    ],
)
def test_rows_are_read_as_the_most_they_can_be(row: dict[str, object], task: str, tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", [row])
    assert infer_task(DataConfig(path=path)) == task
    assert check_data(DataConfig(path=path))[0] == f"read as {task}"


def test_the_task_asked_for_wins(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", [{"prompt": "q", "chosen": "a", "rejected": "b"}])
    assert check_data(DataConfig(path=path, task="sft"))[0] == "read as sft"


def test_lengths_and_losses_are_counted_before_training(tmp_path: Path, model: str) -> None:
    """S0-21: two rows that fit, one whose prompt is truncated, and one whose response exceeds the limit."""
    texts = ["abcd", "abcde", "a" * 30, "abcdef"]
    responses = ["x", "x", "x", "y" * 60]
    path = written(
        tmp_path / "rows.jsonl", [{"prompt": p, "response": a} for p, a in zip(texts, responses, strict=True)]
    )
    lengths = [prompt_tokens(p) + len(a) + 1 for p, a in zip(texts, responses, strict=True)]
    limit = lengths[1]
    lines = check_data(DataConfig(path=path, max_length=limit), model)
    assert f"{path}: 4 rows, 3 kept, 1 dropped" in lines[1]
    assert any(line.startswith("  1 dropped: response_too_long") for line in lines)
    assert any(line.startswith("  1 shortened:") for line in lines)
    ordered = sorted(lengths)
    assert f"median {ordered[1]}, 90 % {ordered[3]}, 99 % {ordered[3]}, longest {ordered[3]}" in lines[-1]


def test_pairs_and_prompts_have_lengths_too(tmp_path: Path, model: str) -> None:
    pair = written(tmp_path / "pairs.jsonl", [{"prompt": "abc", "chosen": "x", "rejected": "yyy"}])
    assert f"longest {prompt_tokens('abc') + 4}" in check_data(DataConfig(path=pair), model)[-1]
    prompt = written(tmp_path / "prompts.jsonl", [{"prompt": "abc"}])
    assert f"longest {prompt_tokens('abc')}" in check_data(DataConfig(path=prompt), model)[-1]
    tokens = written(
        tmp_path / "tokens.jsonl", [{"input_ids_chosen": [5, 6, 7], "input_ids_rejected": [5, 8]}]
    )
    assert "longest 3" in check_data(DataConfig(path=tokens), model)[-1]


def test_preferences_are_reported_with_their_diversity(tmp_path: Path, model: str) -> None:
    """S2-49: with and without a model, before the token counts."""
    rows = [
        {"prompt": p, "chosen": "xxx", "rejected": "x", "domain": d} for p, d in (("Hi", "a"), ("hi!", "b"))
    ]
    path = written(tmp_path / "pairs.jsonl", rows)
    plain, counted = check_data(DataConfig(path=path)), check_data(DataConfig(path=path), model)
    reported = [line.split(":")[0].strip() for line in plain[2:]]
    assert reported == ["prompts", "responses", "sources", "domains", "length"]
    assert "2 distinct in 2 pairs; 1 of them repeat another" in plain[2]
    assert plain[4].strip() == "sources: prompt_chosen_rejected 100%; the rows name no raters"
    assert counted[:-1] == plain and "longest" in counted[-1]


def test_without_a_model_nothing_is_counted(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", [{"prompt": "q"}])
    assert len(check_data(DataConfig(path=path))) == 2


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=60))
def test_a_quantile_is_the_smallest_count_that_covers_its_share(counts: list[int]) -> None:
    shares = {0.5: "median", 0.9: "90 %", 0.99: "99 %"}
    expected = []
    for share, label in shares.items():
        covered = next(c for c in sorted(counts) if np.mean([n <= c for n in counts]) >= share - 1e-12)
        expected.append(f"{label} {covered:,}")
    assert format_quantiles(counts) == ", ".join(expected) + f", longest {max(counts):,}"


def test_no_rows() -> None:
    assert format_quantiles([]) == "no row is left"
