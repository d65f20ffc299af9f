"""RewardBench 2 and RM-Bench rows, read as they are, and their figures by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from card import made_pairs as made

from harken.card.list_benchmarks import ListSet, is_list_row, read_list_rows, score_lists, ties_score
from harken.card.sets import PairSet, read_samples, read_set
from harken.config.base import DataConfig
from harken.errors import UserError
from harken.records import Prompt


def read(rows: list[dict[str, Any]]) -> ListSet:
    return read_list_rows("bench", [(f"bench:{i}", row) for i, row in enumerate(rows, 1)])


def by_number(prompt: Prompt, response: str) -> float:
    """The reward is the number that the response spells."""
    return float(response)


SCORER = made.MadeScorer(by_number)


def test_best_of_four_by_hand():
    """Right when the chosen response has the highest reward, half right when it shares it with one other."""
    found = score_lists(
        SCORER,
        read(
            [
                {"id": "1", "prompt": "a", "chosen": ["3"], "rejected": ["0", "1", "2"], "subset": "Math"},
                {"id": "2", "prompt": "b", "chosen": ["3"], "rejected": ["3", "1", "2"], "subset": "Math"},
                {"id": "3", "prompt": "c", "chosen": ["0"], "rejected": ["3", "1", "2"], "subset": "Focus"},
                {"id": "4", "prompt": "d", "chosen": ["9"], "rejected": ["3", "1", "2"], "subset": "Focus"},
            ]
        ),
    )
    assert found["accuracy"]["share"] == 2.5 / 4 and found["chance"] == 0.25
    assert found["by_domain"]["Math"]["accuracy"]["share"] == 1.5 / 2
    assert found["rows"] == 4 and "ties" not in found


def test_chance_of_several_chosen_responses():
    row = {"prompt": "a", "chosen": ["5", "6"], "rejected": ["1", "2", "3"]}
    assert score_lists(SCORER, read([row]))["chance"] == pytest.approx(1 / math.comb(5, 2))


def test_every_chosen_response_has_to_be_above_every_rejected_one():
    row = {"prompt": "a", "chosen": ["5", "1"], "rejected": ["2", "0"]}
    assert score_lists(SCORER, read([row]))["accuracy"]["share"] == 0.0


TIED = [
    ("tied:1", ["9", "8"], ["1", "0"]),
    ("ref:1", ["9"], ["3"]),
    ("tied:2", ["9", "2"], ["1", "0"]),
    ("ref:2", ["5"], ["6"]),
    ("tied:3", ["9", "7"], ["4", "0"]),
    ("ref:3", ["5"], ["4"]),
]


def tied_rows() -> list[dict[str, Any]]:
    return [{"id": i, "prompt": i[-1], "chosen": c, "rejected": r, "subset": "Ties"} for i, c, r in TIED]


def test_the_ties_score_by_hand():
    found = score_lists(SCORER, read(tied_rows()))
    ties = found["ties"]
    # Spreads 1, 7, 2; gaps of the tied rows 7, 1, 3; of the ref rows 6, -1, 1.
    assert (ties["tied_accuracy"], ties["ref_accuracy"]) == (1.0, pytest.approx(2 / 3))
    assert (ties["preferred"], ties["preferred_hard"]) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    term = np.mean(np.tanh([6 / 1 - 1, -1 / 7 - 1, 1 / 2 - 1]))
    want = 0.3 * 1 + 0.3 * 2 / 3 + 0.2 * 2 / 3 + 0.2 * 1 / 3 + 0.01 * term
    assert ties["score"] == pytest.approx(want)
    assert "accuracy" not in found


def test_ties_of_equal_rewards_are_no_error():
    rows = read(tied_rows()).rows
    found = ties_score(rows, [np.ones(len(row.chosen) + len(row.rejected)) for row in rows])
    assert found["score"] == found["tied_accuracy"] == 0.0  # 0 / 0 in the term is 0
    # A spread of 0 and a gap above 0: the term is 1.
    apart = [np.r_[np.ones(len(row.chosen)), np.zeros(len(row.rejected))] for row in rows]
    assert ties_score(rows, apart)["score"] == pytest.approx(1.01)
    assert ties_score(rows[:1], [np.array([1.0, 2.0, 0.0, 0.0])])["prompts"] == 0


def test_equal_rewards_are_a_guess():
    """RewardBench 2 credits 1 / k to a chosen response that shares the highest reward with k − 1 others."""
    rows = [
        {"id": str(i), "prompt": str(i), "chosen": [c], "rejected": r, "subset": "Math"}
        for i, (c, r) in enumerate([("5", ["5", "5", "5"]), ("5", ["5", "1", "2"]), ("5", ["6", "5", "1"])])
    ]
    assert score_lists(SCORER, read(rows))["accuracy"]["share"] == pytest.approx((1 / 4 + 1 / 2 + 0) / 3)
    # Of several chosen responses all have to be above.
    both = [{"id": "a", "prompt": "a", "chosen": ["5", "9"], "rejected": ["5", "1"], "subset": "Math"}]
    assert score_lists(SCORER, read(both))["accuracy"]["share"] == 0.0


def test_styles_by_hand():
    """Chosen 1, 3, 5; rejected 0, 2, 4: the plain chosen response loses to both showier rejected ones."""
    rows = [
        {"id": "1", "prompt": "a", "chosen": ["1", "3", "5"], "rejected": ["0", "2", "4"], "domain": "code"},
        {"id": "2", "prompt": "b", "chosen": ["9", "9", "9"], "rejected": ["0", "0", "0"], "domain": "chat"},
    ]
    found = score_lists(SCORER, read(rows))
    assert read(rows).styles
    assert (found["easy"]["share"], found["normal"]["share"], found["hard"]["share"]) == (1.0, 1.0, 0.5)
    assert found["matrix"] == [[1.0, 0.5, 0.5], [1.0, 1.0, 0.5], [1.0, 1.0, 1.0]]
    assert found["accuracy"]["share"] == pytest.approx((1 + 1 + 0.5) / 3)
    assert found["by_domain"]["code"]["hard"]["share"] == 0.0
    assert found["hard"]["prompts"] == 2 and found["hard"]["pairs"] == 6


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q", "chosen": "a", "rejected": ["b"]},
        {"prompt": "q", "chosen": [], "rejected": ["b"]},
        {"prompt": "q", "chosen": [{"role": "user", "content": "q"}], "rejected": [{"role": "user"}]},
        "text",
        {"prompt": "q"},
    ],
)
def test_other_rows_are_no_lists(row: object):
    assert not is_list_row(row)


def test_unusable_rows_are_counted():
    found = read([{"prompt": "q", "chosen": ["1"], "rejected": ["0"]}, {"chosen": ["1"], "rejected": ["0"]}])
    assert (len(found.rows), found.report.dropped.total()) == (1, 1)


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_file_is_read_as_what_it_is(tmp_path: Path):
    """S2-66."""
    plain = written(tmp_path / "a.jsonl", [{"prompt": "q", "chosen": "a", "rejected": "b", "subset": "x"}])
    found = read_set(DataConfig(path=plain), 0)
    assert isinstance(found, PairSet) and found.pairs[0].prompt.domain == "x"  # type: ignore[union-attr]
    assert isinstance(read_set(DataConfig(path=written(tmp_path / "b.jsonl", tied_rows())), 0), ListSet)
    mixed = written(tmp_path / "d.jsonl", [{"prompt": "q", "chosen": "a", "rejected": "b"}, *tied_rows()])
    lists = read_set(DataConfig(path=mixed), 0)  # one row of another kind is dropped, and counted
    assert isinstance(lists, ListSet) and lists.report.dropped.total() == 1
    broken = written(tmp_path / "c.jsonl", [{"chosen": ["a"], "rejected": ["b"]}])
    with pytest.raises(UserError, match="no row is left"):
        read_set(DataConfig(path=broken), 0)


def test_samples_are_grouped_by_prompt(tmp_path: Path):
    rows = [
        {"prompt": "q", "response": "a", "score_x": 1, "gold": 2.0},
        {
            "messages": json.dumps([{"role": "user", "content": "q"}]),
            "response": "b",
            "score_x": 3,
            "gold": 4,
        },
        {"prompt": "r", "response": "alone", "score_x": 1},
        {"prompt": "q"},
    ]
    found = read_samples(written(tmp_path / "s.jsonl", rows))
    assert found.responses == [["a", "b"]]
    assert found.judged == {"gold": [[2.0, 4.0]], "score_x": [[1.0, 3.0]]}
    with pytest.raises(UserError, match="no prompt has two responses"):
        read_samples(written(tmp_path / "t.jsonl", rows[2:]))


@pytest.mark.parametrize("column", ["policy", "generator", "model"])
def test_samples_of_several_policies_are_refused(tmp_path: Path, column: str):
    """Best of n draws from one policy: a mixture has no KL bound."""
    rows = [{"prompt": "q", "response": text, column: text} for text in ("a", "b")]
    with pytest.raises(UserError, match="responses of several policies: a, b"):
        read_samples(written(tmp_path / "s.jsonl", rows))
    assert read_samples(written(tmp_path / "t.jsonl", [{**row, column: "a"} for row in rows])).responses
