"""Lengths against those of the rows a stage really trains on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from tiny_plan import settings, stage, write_rows

from harken.config import RunConfig
from harken.data.chat import Renderer
from harken.models.tokenizer import load_tokenizer
from harken.run.folder import RunFolder
from harken.train import load_data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_rows(tmp_path)
    return tmp_path


def test_lengths_are_those_of_the_rows_that_train(folder: Path) -> None:
    weight_dtype = {"data": {"path": str(folder / "pairs.jsonl"), "max_length": 90, "eval_fraction": 0.2}}
    config = RunConfig.model_validate(settings(folder, "sft", run=weight_dtype))
    renderer = Renderer(load_tokenizer(folder / "model"))
    train, held_out = load_data.encode_demonstrations(config, renderer, RunFolder(folder / "run"))
    rows = stage(folder, "sft", run=weight_dtype).rows
    assert rows.lengths_known
    assert Counter(rows.lengths) == Counter(len(row.tokens) for row in train)
    assert Counter(rows.target_tokens) == Counter(sum(row.response_mask) for row in train)
    assert (rows.train, rows.held_out) == (len(train), len(held_out))


def test_of_a_pair_the_longer_side_counts(folder: Path) -> None:
    config = RunConfig.model_validate(settings(folder, "reward"))
    renderer = Renderer(load_tokenizer(folder / "model"))
    pairs, _ = load_data.encode_preferences(config, renderer, RunFolder(folder / "run"))
    longer = [max(len(p.chosen_tokens), len(p.rejected_tokens)) for p in pairs]
    assert Counter(stage(folder, "reward").rows.lengths) == Counter(longer)


def test_without_data_every_row_is_as_long_as_it_may_be(folder: Path) -> None:
    job = stage(folder, "sft", run={"data": {"path": str(folder / "none.jsonl"), "max_length": 100}})
    assert job.rows.lengths == (100,) and job.rows.train is None
    assert "assumed to have 100 tokens" in job.notes[0] and "no such file" in job.notes[0]


def test_a_limit_fills_every_micro_batch(folder: Path) -> None:
    """Shorter rows than the limit would: 250 tokens are two and a half rows of 100."""
    job = stage(folder, "sft", run={"data": {"path": str(folder / "none.jsonl"), "max_length": 100}})
    items = [job.rows.items[0]] * 6
    groups = job.rows.micro_batches(items, 250)
    assert groups == [(2.5, 100), (2.5, 100), (1.0, 100)]
    assert sum(rows for rows, _ in groups) == 6
    assert job.rows.micro_batches(items, 10) == [(1.0, 100)] * 6  # a row is never split
    assert job.rows.micro_batches(items, 100_000) == [(6.0, 100)]
