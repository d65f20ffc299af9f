"""`data.raters`: votes become labels by majority, by weight, and by Dawid and Skene's model."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harken.config.base import DataConfig
from harken.config.files import validate_settings
from harken.data import sources
from harken.errors import UserError
from harken.maths.statistics.dawid_skene import VoteTable, dawid_skene
from harken.records import Preference


def load(folder: Path, rows: list[dict[str, Any]], **settings: Any) -> tuple[list[Preference], list[str]]:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs, report = sources.load_preferences(DataConfig(path=str(path), **settings))
    assert report.raw == report.kept + report.dropped.total()
    return [pair for pair in pairs if isinstance(pair, Preference)], report.notes


def helpsteer(number: int, votes: dict[str, float], overall: float = -1, **extra: Any) -> dict[str, Any]:
    """A row whose first response is preferred by negative scores."""
    entries = [{"score": score, "rater": name, "group": name[:-1]} for name, score in votes.items()]
    return {
        "context": [{"role": "user", "content": f"question {number}"}],
        "response1": f"first {number}", "response2": f"second {number}",
        "overall_preference": overall, "individual_preference": entries, **extra,
    }  # fmt: skip


VOTES = {"expert1": 2.0, "crowd1": -1.0, "crowd2": -1.0}


def test_the_majority_is_a_hard_label(tmp_path: Path):
    """S2-61: the row's own score says the other side."""
    (pair,), notes = load(tmp_path, [helpsteer(1, VOTES, overall=3)], raters="majority")
    assert (pair.chosen, pair.label, pair.chosen_first) == ("first 1", 1.0, True)
    assert pair.raters == (-2.0, 1.0, 1.0) and "majority of 3 votes on 1 pairs" in notes[0]
    (tie,), _ = load(tmp_path, [helpsteer(1, {"a1": 1, "b1": -1})], raters="majority")
    assert (tie.label, tie.strength) == (0.5, 0.0)


@pytest.mark.parametrize(
    ("weights", "chosen", "label"),
    [
        ({"expert": 3.0}, "second 1", 3 / 5),
        ({"expert1": 3.0, "crowd": 0.5}, "second 1", 3 / 4),
        ({"expert": 0.5, "expert1": 3.0}, "second 1", 3 / 5),
        ({"expert": 1.0}, "first 1", 2 / 3),
        ({"expert": 0.0, "crowd": 0.0}, None, 0.5),
    ],
)
def test_weights_by_name_and_by_group(
    tmp_path: Path, weights: dict[str, float], chosen: str | None, label: float
):
    """S2-87: a rater's own weight goes before that of the group, and others weigh 1."""
    (pair,), _ = load(tmp_path, [helpsteer(1, VOTES)], raters="weighted", rater_weights=weights)
    assert pair.label == pytest.approx(label) and chosen in (None, pair.chosen)


def test_a_tie_is_half_a_vote(tmp_path: Path):
    row = helpsteer(1, {"a1": -1, "b1": 0, "c1": 0})
    (pair,), _ = load(tmp_path, [row], raters="weighted", rater_weights={"a": 2.0})
    assert (pair.chosen, pair.label) == ("first 1", pytest.approx(3 / 4))


def test_weights_in_the_rows(tmp_path: Path):
    """S2-87: `weight` of each entry, or `rater_weight` of rows that are single votes."""
    row = helpsteer(1, VOTES)
    for entry, weight in zip(row["individual_preference"], (5, 1, 2), strict=True):
        entry["weight"] = weight
    (pair,), notes = load(tmp_path, [row], raters="weighted")
    assert (pair.chosen, pair.label) == ("second 1", pytest.approx(5 / 8)) and "weights in the rows" in notes[
        0
    ]
    votes = [
        {"prompt": "q", "chosen": "x", "rejected": "y", "rater": "a", "rater_weight": 1},
        {"prompt": "q", "chosen": "y", "rejected": "x", "rater": "b", "rater_weight": 4},
    ]
    (pair,), _ = load(tmp_path, votes, raters="weighted")
    assert (pair.chosen, pair.label) == ("y", pytest.approx(0.8))
    (bad, *_), _ = load(tmp_path, [{**votes[0], "rater_weight": -1}, *votes], raters="weighted")
    assert bad.chosen == "y"


def test_weights_by_golden_rows_are_log_odds(tmp_path: Path):
    """S2-87: a rater with 8 of 8 right weighs log 9, one with 4 of 8 right nothing; golden rows keep their label."""
    gold = [
        helpsteer(i, {"a1": -1, "b1": -1 if i % 2 else 1}, gold="first" if i else "response1")
        for i in range(8)
    ]
    gold[0]["gold"] = -2
    rows = [*gold, helpsteer(9, {"a1": 1, "b1": -1}), helpsteer(10, {"c1": 1, "a1": -1})]
    rows.append(helpsteer(11, {"d1": 1}, gold="first"))
    pairs, notes = load(tmp_path, rows, raters="weighted", rater_weights="gold")
    assert [(p.chosen, p.label) for p in pairs[:8]] == [(f"first {i}", 1.0) for i in range(8)]
    assert (pairs[8].chosen, pairs[8].label) == ("second 9", 1.0)
    assert (pairs[9].chosen, pairs[9].label) == ("first 10", 1.0)  # c1 was never checked: log-odds 0
    assert (pairs[10].chosen, pairs[10].label) == ("first 11", 1.0)  # against its only vote
    assert "a1 8/8, b1 4/8" in notes[0] and "9 golden rows" in notes[0]


def simulated(
    count: int, accuracies: dict[str, float], seed: int = 0
) -> tuple[list[dict[str, Any]], np.ndarray]:
    draw = np.random.default_rng(seed)
    truth = draw.random(count) < 0.4  # the second response is better
    rows = []
    for i, second in enumerate(truth):
        votes = {
            name: 1.0 if bool(second) == (draw.random() < accuracy) else -1.0
            for name, accuracy in accuracies.items()
        }
        rows.append(helpsteer(i, votes))
    return rows, truth


def test_dawid_skene_labels_are_the_posterior(tmp_path: Path):
    """S2-61: the soft label is that of the model fitted to the votes in the order of the responses."""
    names = {"a1": 0.95, "b1": 0.6, "c1": 0.6}
    rows, truth = simulated(300, names)
    pairs, notes = load(tmp_path, rows, raters="dawid_skene")
    votes = [
        (i, r, int(entry["score"] > 0))
        for i, row in enumerate(rows)
        for r, entry in enumerate(row["individual_preference"])
    ]
    fit = dawid_skene(VoteTable.of(votes, 300, 3, 2))
    for i, pair in enumerate(pairs):
        second = pair.label if pair.chosen == f"second {i}" else 1 - pair.label
        assert second == pytest.approx(fit.posterior[i, 1], abs=1e-9) and pair.label >= 0.5
    right = np.mean([(pair.chosen == f"second {i}") == truth[i] for i, pair in enumerate(pairs)])
    assert right > 0.9 and "a1 0.9" in notes[0] and "converged in" in notes[0]


def test_the_side_that_the_row_prefers_does_not_decide(tmp_path: Path):
    """Which response is called chosen follows from the votes, so it may not be a class: all votes would be right."""
    rows, _ = simulated(200, {"a1": 0.8, "b1": 0.7, "c1": 0.65})
    same, _ = load(tmp_path, rows, raters="dawid_skene")
    turned, _ = load(tmp_path, [row | {"overall_preference": 3} for row in rows], raters="dawid_skene")
    assert [(p.chosen, round(p.label, 12)) for p in same] == [(p.chosen, round(p.label, 12)) for p in turned]


def test_single_votes_without_a_shown_order_are_merged(tmp_path: Path):
    """One row per vote, the better response first: the hash of the texts gives an order that votes do not decide."""
    rows, truth = simulated(200, {"a1": 0.95, "b1": 0.75, "c1": 0.75})
    long = [
        {
            "prompt": f"question {i}", "rater": entry["rater"],
            "chosen": f"{('first', 'second')[entry['score'] > 0]} {i}",
            "rejected": f"{('second', 'first')[entry['score'] > 0]} {i}",
        }
        for i, row in enumerate(rows) for entry in row["individual_preference"]
    ]  # fmt: skip
    pairs, notes = load(tmp_path, long, raters="dawid_skene")
    assert len(pairs) == 200 and "600 votes on 200 pairs" in notes[0]
    assert all(len(pair.raters) == len(pair.voters) == 3 for pair in pairs)
    right = [(pair.chosen.startswith("second")) == truth[i] for i, pair in enumerate(pairs)]
    assert np.mean(right) > 0.9 and 0.5 < np.mean([pair.label for pair in pairs]) < 1


def test_ties_are_a_class_and_count_half(tmp_path: Path):
    rows, _ = simulated(100, {"a1": 0.9, "b1": 0.9, "c1": 0.9})
    for row in rows[:30]:
        for entry in row["individual_preference"]:
            entry["score"] = 0
    pairs, _ = load(tmp_path, rows, raters="dawid_skene")
    assert all(pair.label == pytest.approx(0.5, abs=0.02) for pair in pairs[:30])
    assert np.mean([pair.label for pair in pairs[30:]]) > 0.9


def test_pandalm_has_posteriors(harken_data: Path):
    path = str(harken_data / "multi_annotator/pandalm_testset_v1.jsonl.gz")
    pairs, report = sources.load_preferences(DataConfig(path=path, raters="dawid_skene"))
    labels = np.array([pair.label for pair in pairs])
    assert len(pairs) == 939 and np.isfinite(labels).all() and (labels >= 0.5).all()
    assert ((labels > 0.5) & (labels < 1)).sum() > 30 and "annotator1 0.9" in report.notes[-1]


@pytest.mark.parametrize(
    ("row", "settings", "problem"),
    [
        ({"individual_preference": []}, {"raters": "majority"}, "no row has votes"),
        ({"individual_preference": [1, -1]}, {"raters": "dawid_skene"}, "do not say whose they are"),
        (
            {"individual_preference": [1, -1]},
            {"raters": "weighted", "rater_weights": "gold"},
            "no golden row",
        ),
        ({}, {"raters": "weighted"}, "no vote has a weight"),
        ({}, {"raters": "weighted", "rater_weights": {"experts": 2.0}}, "'experts' is no rater"),
    ],
)
def test_rules_that_the_rows_do_not_support_are_refused(
    tmp_path: Path, row: dict[str, Any], settings: dict[str, Any], problem: str
):
    with pytest.raises(UserError, match=problem) as error:
        load(tmp_path, [helpsteer(1, VOTES) | row], **settings)
    assert "Fix:" in str(error.value)


def test_columns_of_that_name_mean_nothing_without_the_setting(tmp_path: Path):
    """A column gold may hold a reference answer, and a weight may be a text."""
    rows = [
        {"prompt": "q", "chosen": "x", "rejected": "y", "gold": "42", "weight": "heavy", "rater_weight": "x"}
    ]
    pairs, _ = load(tmp_path, rows)
    assert len(pairs) == 1 and pairs[0].gold is None


def test_weights_need_their_rule():
    with pytest.raises(UserError, match="set raters to weighted"):
        validate_settings(DataConfig, {"path": "x", "rater_weights": {"a": 1.0}}, "data")
    assert math.isclose(
        DataConfig(path="x", raters="weighted", rater_weights={"a": 1.0}).rater_weights["a"], 1.0
    )
