"""Which models wrote the responses of a row, who judged it, and which side came first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harken.config.base import DataConfig
from harken.data.parse import parse_preference_rows
from harken.data.provenance import rater_name, written_by
from harken.data.selection import selection_prompts
from harken.records import Preference


@pytest.mark.parametrize(
    ("row", "names"),
    [
        ({"chosen_model": "a", "rejected_model": "b"}, ("a", "b")),
        ({"model_a": "a", "model_b": "b", "model": "c"}, ("a", "b")),
        ({"response1_policy": "a", "response2_policy": "b"}, ("a", "b")),
        ({"generator_1": "a", "generator_2": "b"}, ("a", "b")),
        ({"policy": "p"}, ("p", "p")),
        ({"model_a": "a"}, ("", "")),
        ({"model_a": 1, "model_b": 2}, ("", "")),
        ({"policy": "a\u202eb"}, ("a\\u202eb", "a\\u202eb")),
    ],
)
def test_the_models_that_wrote_the_responses(row: dict[str, Any], names: tuple[str, str]):
    """S2-19, S2-65."""
    assert written_by(row) == names


@pytest.mark.parametrize(
    ("row", "name"),
    [({"annotator_id": 7}, "7"), ({"rater": "x"}, "x"), ({"rater": True}, ""), ({"judge": "x"}, "")],
)
def test_who_judged(row: dict[str, Any], name: str):
    assert rater_name(row) == name


def parsed(tmp_path: Path, rows: list[dict[str, Any]]) -> list[Preference]:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return parse_preference_rows(DataConfig(path=str(path)))[0]  # type: ignore[return-value]


def test_the_writers_follow_the_label(tmp_path: Path):
    both = {"response_a": "x", "response_b": "y", "model_a": "sft", "model_b": "gpt", "annotator_id": "r"}
    rows = [{"prompt": f"q{label}", "label": label, **both} for label in ("A", "B", "tie")]
    first, second, tie = parsed(tmp_path, rows)
    assert (first.chosen, first.written_by, first.chosen_first) == ("x", ("sft", "gpt"), True)
    assert (second.chosen, second.written_by, second.chosen_first) == ("y", ("gpt", "sft"), False)
    assert (tie.written_by, tie.chosen_first, tie.rater) == (("sft", "gpt"), None, "r")


def test_layouts_that_put_the_better_one_first_say_nothing_about_positions(tmp_path: Path):
    row = parsed(
        tmp_path,
        [{"prompt": "q", "chosen": "a", "rejected": "b", "chosen_model": "m", "rejected_model": "n"}],
    )[0]
    assert (row.chosen_first, row.written_by) == (None, ("m", "n"))


def test_selection_prompts_are_a_stable_share():
    ids = [f"p{i}" for i in range(40)]
    chosen = selection_prompts(ids * 2, 0.25, 1)
    assert len(chosen) == 10 and chosen == selection_prompts(reversed(ids), 0.25, 1)
    assert chosen != selection_prompts(ids, 0.25, 2)
    assert selection_prompts(ids, 0.0, 1) == set()
    assert len(selection_prompts(ids, 0.001, 1)) == 1
