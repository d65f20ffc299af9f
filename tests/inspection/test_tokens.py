"""A trace puts the right numbers at the right token."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny import END, tiny_tokenizer

from harken.inspection.recorded import read_step
from harken.inspection.tokens import COLUMNS, select_rows, token_decoder, token_rows, write_trace
from harken.inspection.trace import trace
from harken.run.folder import RunFolder
from harken.run.tables import read_rows

MakeRun = Callable[..., Path]


def test_every_number_belongs_to_its_token(make_run: MakeRun) -> None:
    """S0-11, properties 1 and 15: ids in order from the first response token; the score lands on the last one."""
    root = make_run()
    step = read_step(root, 3)
    credit = read_rows(root / "credit" / "update-000003.parquet")
    for row, record in enumerate(read_rows(root / "rollouts" / "update-000003.parquet")):
        tokens = token_rows(step, row, str)
        assert [t["token_id"] for t in tokens] == record["response_tokens"]
        assert [t["position"] for t in tokens] == list(range(len(record["response_tokens"])))
        assert [t["logprob_sampler"] for t in tokens] == [-0.5 - 0.25 * i for i in range(len(tokens))]
        assert [t["return"] for t in tokens] == credit[row]["returns"]
        for t in tokens:
            assert t["kl"] == pytest.approx(t["logprob_old"] - t["logprob_reference"], abs=1e-6)
            earned = t["reward"] + 0.05 * t["kl"]  # what is left of a token's reward without its KL penalty
            assert earned == pytest.approx(record["reward"] if t is tokens[-1] else 0.0, abs=1e-6)
            assert t["ratio"] == pytest.approx(math.exp(t["logprob_new"] - t["logprob_old"]))


def test_clipped_means_outside_the_runs_own_range(make_run: MakeRun) -> None:
    """Property 30: below 1 − clip_range or above 1 + clip_range_high, each side by its own bound."""
    step = read_step(make_run(ppo={"clip_range": 0.5, "clip_range_high": 1.5}), 3)
    tokens = [t for row in range(6) for t in token_rows(step, row, str)]
    for t in tokens:
        assert t["clipped"] is (t["ratio"] < 0.5 or t["ratio"] > 2.5)
    assert {1.5 < t["ratio"] < 2.5 for t in tokens} == {True, False}, "the bounds tell the two ranges apart"


def test_masked_truncated_responses_are_marked(make_run: MakeRun) -> None:
    step = read_step(make_run(ppo={"truncated": "mask"}), 3)
    for row, record in enumerate(step.rollouts):
        assert {t["policy_mask"] for t in token_rows(step, row, str)} == {record["stop"] == "end_of_turn"}


def test_unmeasured_values_are_none(make_run: MakeRun) -> None:
    step = read_step(make_run(measured=False, ppo={"advantage": "rloo", "samples_per_prompt": 2}), 3)
    token = token_rows(step, 0, str)[0]
    assert [token[name] for name in ("logprob_new", "ratio", "clipped", "value")] == [None] * 4
    assert token["advantage"] is not None


def test_best_median_and_worst_are_chosen_by_reward(make_run: MakeRun) -> None:
    """Rewards are 1.5, −2, 0.25, 3, −0.5, 0.75."""
    step = read_step(make_run(), 3)
    assert {row: why.split()[0] for row, why in select_rows(step).items()} == {
        3: "best",
        2: "median",
        1: "worst",
    }
    assert list(select_rows(step, rows="4,0")) == [4, 0]


def test_a_prompt_is_found_by_its_id_or_how_it_begins(make_run: MakeRun) -> None:
    step = read_step(make_run(prompts=["ab", "ab", "abc", "abc", "x", "y"]), 3)
    assert list(select_rows(step, prompt="ab")) == [0, 1]
    assert list(select_rows(step, prompt="a")) == [0, 1, 2, 3]
    assert list(select_rows(step, prompt="abc")) == [2, 3]


def test_tokens_are_text_of_the_runs_tokenizer(make_run: MakeRun, tmp_path: Path) -> None:
    run = RunFolder(make_run())
    text_of, is_text = token_decoder(run)
    line_break, letter = tiny_tokenizer().encode("\nA", add_special_tokens=False)
    assert is_text and [text_of(t) for t in (line_break, letter, END)] == ["\n", "A", "<|im_end|>"]
    for file in run.final.iterdir():
        file.unlink()
    text_of, is_text = token_decoder(run)
    assert not is_text and text_of(letter) == str(letter)


def test_an_unfinished_run_takes_the_tokenizer_it_started_from(make_run: MakeRun, tmp_path: Path) -> None:
    run = RunFolder(make_run())
    run.final.rename(tmp_path / "base")
    run.manifest.write_text(f'{{"created": "now", "lineage": {{"folder": "{tmp_path / "base"}"}}}}')
    assert token_decoder(run)[0](END) == "<|im_end|>"


def test_the_file_holds_one_row_a_token(make_run: MakeRun, tmp_path: Path) -> None:
    step, out = read_step(make_run(), 3), tmp_path / "tokens.parquet"
    write_trace(out, step, [2, 0], str)
    rows = read_rows(out)
    assert [row["row"] for row in rows] == [2] + [0] * 8
    assert rows[1:] == [r | {"token": str(r["token_id"])} for r in token_rows(step, 0, str)]
    schema = pq.read_schema(out)
    assert {name: schema.field(name).type for name in schema.names} == COLUMNS


def test_all_is_what_the_file_holds_and_the_screen_shows_the_chosen(
    make_run: MakeRun, tmp_path: Path
) -> None:
    root, out = make_run(measured=False), tmp_path / "tokens.parquet"
    lines = list(trace(root, 3, rows="5", out=out, everything=True))
    assert len(read_rows(out)) == 8 + 6 + 1 + 4 + 7 + 8
    assert sum(line.startswith("update 3 row") for line in lines) == 1
    assert pq.read_schema(out).field("ratio").type == pa.float64(), "a column without a value keeps its type"
    list(trace(root, 3, rows="5", out=out))
    assert len(read_rows(out)) == 8
