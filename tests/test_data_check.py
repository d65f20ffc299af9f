"""`harken data`: what rows hold, and what a token limit costs, counted by hand over a tokenizer of bytes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import save_tiny, tiny_tokenizer

from harken.config.base import DataConfig
from harken.data.chat import Renderer
from harken.data.length_grid import RowLength, grid_cells, row_lengths
from harken.data_check import check_data, format_quantiles, infer_task
from harken.records import Demonstration, Message, Preference, Prompt


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
    assert reported == ["prompts", "responses", "sources", "domains", "length", "written by", "advice"]
    assert "2 distinct in 2 pairs; 1 of them repeat another" in plain[2]
    assert plain[4].strip() == "sources: prompt_chosen_rejected 100%; the rows name no raters"
    assert counted[: len(plain)] == plain and "longest" in counted[-1]


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


def test_the_grid_of_limits_stages_and_domains(tmp_path: Path, model: str) -> None:
    """S0-21: shares over each limit by hand: a token a byte, the longer side for reward rows, the better for SFT."""
    rows = [
        {"prompt": "a" * 10, "chosen": "x" * 10, "rejected": "y", "domain": "short"},
        {"prompt": "b" * 600, "chosen": "x" * 10, "rejected": "y", "domain": "long"},
        {"prompt": "c" * 10, "chosen": "x", "rejected": "y" * 1100, "domain": "long"},
        {"prompt": "d" * 10, "chosen": "x" * 2000, "rejected": "y", "domain": "long"},
    ]
    lines = check_data(DataConfig(path=written(tmp_path / "pairs.jsonl", rows)), model)
    start = next(i for i, line in enumerate(lines) if "rows over a token limit" in line)
    table = [line.split() for line in lines[start + 1 : -1]]
    assert table[0] == [
        "stage",
        "domain",
        "rows",
        *(w for n in ("512", "1,024", "2,048", "3,072", "4,096") for w in (">", n)),
    ]
    found = {(line[0], line[1]): " ".join(line[2:]) for line in table[1:] if line[0] in ("sft", "reward")}
    zero = "0.00% 0.00%"
    assert found["sft", "all"] == f"4 50.00% (25.00%) 25.00% (25.00%) 0.00% {zero}"
    assert found["reward", "all"] == f"4 75.00% (50.00%) 50.00% (50.00%) 0.00% {zero}"
    assert found["reward", "long"] == f"3 100.00% (66.67%) 66.67% (66.67%) 0.00% {zero}"
    assert found["reward", "short"] == f"1 0.00% 0.00% 0.00% {zero}"


def test_a_row_of_the_limit_fits_and_sft_reads_the_better_side() -> None:
    rows = [RowLength("sft", "", 512, frozenset()), RowLength("sft", "", 513, frozenset())]
    assert grid_cells(rows, [512])["> 512"] == ["50.00%"]
    renderer, prompt = Renderer(tiny_tokenizer()), Prompt("p", (Message("user", "hi"),))
    found = {
        label: row_lengths(Preference(prompt, "long text", "x", label), renderer, [8]) for label in (1.0, 0.0)
    }
    better = {
        label: renderer.count_tokens(Demonstration(prompt, "long text" if label else "x")) for label in found
    }
    assert {label: lengths[0].tokens for label, lengths in found.items()} == better and better[1.0] > better[
        0.0
    ]


def test_prompts_and_tokens_have_a_grid_too(tmp_path: Path, model: str) -> None:
    prompts = written(tmp_path / "prompts.jsonl", [{"prompt": "a" * 700}, {"prompt": "b"}])
    lines = check_data(DataConfig(path=prompts, max_length=600), model)
    row = next(line for line in lines if line.split()[:1] == ["ppo"]).split()
    assert row[2:5] == ["2", "50.00%", "50.00%"] and "> 600" in " ".join(lines)
    pair = {"input_ids_chosen": [5] * 700, "input_ids_rejected": [5] * 3 + [6]}
    lines = check_data(DataConfig(path=written(tmp_path / "t.jsonl", [pair]), max_length=1000), model)
    assert "100.00% (100.00%)" in next(line for line in lines if line.split()[:1] == ["reward"])


def test_who_wrote_the_responses_and_a_policy_without_samples(tmp_path: Path, model: str) -> None:
    """S2-19, S2-31: shares of the models, a warning when the policy is none of them, and skew by position."""
    rows = [
        {
            "prompt": f"q{i}",
            "response_a": "x",
            "response_b": "y",
            "label": "A",
            "model_a": "gpt",
            "model_b": "llama",
        }
        for i in range(20)
    ]
    path = written(tmp_path / "pairs.jsonl", rows)
    lines = check_data(DataConfig(path=path), model)
    text = "\n".join(lines)
    assert "written by: gpt 50%, llama 50%" in text
    assert "warning: no response is by the policy" in text and "only by gpt, llama" in text
    assert "warning: the first response is preferred in 100% of the rows" in text
    assert "advice: 20 pairs, fewer than the usual 10,000 to 50,000" in text
    named = written(tmp_path / "named.jsonl", [row | {"model_b": Path(model).name} for row in rows[:19]])
    text = "\n".join(check_data(DataConfig(path=named), model))
    assert "no response is by the policy" not in text
    assert (
        "positions: the first response is preferred in 100% of 19 rows" in text
        and "label_scale may" not in text
    )
