"""Figures of a review: by hand on small studies, against simulated raters, and the words of the report."""

from __future__ import annotations

import json
import random
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from explorer.test_page_data import SCHEMA, faults
from read_page import read_page
from review.reviewed import KEY, attentive, cast, planned, review_config
from scipy.stats import binomtest, fisher_exact

from harken.card.ceiling import ceiling_section
from harken.card.scored import ScoredPairs
from harken.cli.main import main
from harken.config.review import ReviewConfig
from harken.errors import UserError
from harken.review.calibration import calibration_of
from harken.review.export import export_pairs, write_pairs
from harken.review.items import read_pairs
from harken.review.outcomes import outcome_of, unblind
from harken.review.report import lock_and_report, read_locked_votes, report_lines
from harken.review.report_page import drift_charts
from harken.review.session import FINISHED, STOPPED, ReviewSession
from harken.review.statistics import headline_decision, item_signs, review_figures
from harken.review.study import Study, open_study, plan_study
from harken.review.votes import Vote, VoteRefused, VoteStore
from harken.run.folder import ReviewFolder

Chooser = Callable[[str, Any, Any], str]


def voted(folder: Path, choose: Chooser, **changes: Any) -> tuple[Study, list[Vote]]:
    study = planned(folder, **changes)
    store = VoteStore(folder / f"{uuid.uuid4()}.sqlite", study.hash)
    cast(store, study, choose)
    return study, store.votes()


def guess(seed: int) -> Chooser:
    draw = random.Random(seed)
    return lambda rater, task, item: draw.choice(["first", "second"])


def noisy(seed: int, accuracy: float) -> Chooser:
    """The second policy is better on three items of four; a rater sees it with this accuracy."""
    draw = random.Random(seed)

    def choose(rater: str, task: Any, item: Any) -> str:
        better = "first" if int(item.id[1:]) % 4 == 0 else "second"
        return better if draw.random() < accuracy else ("first", "second")[better == "first"]

    return choose


def test_a_choice_of_side_becomes_a_policy_through_the_task_alone() -> None:
    assert [outcome_of(side, True) for side in ("left", "right")] == ["first", "second"]
    assert [outcome_of(side, False) for side in ("left", "right")] == ["second", "first"]
    assert [outcome_of(same, True) for same in ("tie", "both_bad", "skip")] == ["tie", "both_bad", "skip"]
    with pytest.raises(ValueError):
        outcome_of("undo", True)


def test_wins_ties_and_losses_by_hand(tmp_path: Path) -> None:
    outcomes = ["second"] * 9 + ["first"] * 3 + ["tie"] * 4 + ["both_bad"] * 2 + ["skip"] * 2

    def choose(rater: str, task: Any, item: Any) -> str:
        places = sorted(study.items[one].id for one in voted_items)
        return outcomes[places.index(item.id)] if item.id in voted_items else "second"

    study = planned(tmp_path, raters=["anna"])
    voted_items = {task.item for task in study.tasks["anna"] if task.kind == "vote"}
    store = VoteStore(tmp_path / "v", study.hash)
    cast(store, study, choose)
    figures = review_figures(study, store.votes(), draws=200)
    (pair,) = figures["pairs"]
    assert (pair["wins"], pair["ties"], pair["losses"], pair["n"]) == (9, 6, 3, 18)
    assert (pair["both_bad"], pair["skips"], pair["votes"]) == (2, 2, 18)
    assert pair["win_rate_decided"]["value"] == 0.75 and pair["win_rate"]["value"] == 0.5
    assert pair["sign_test_p"] == pytest.approx(binomtest(9, 12).pvalue)
    assert figures["votes"] == 20 and figures["items"]["voted"] == 18
    assert figures["agreement"] is None and figures["headline"]["allowed"] is False
    assert "no item was judged by two raters" in figures["headline"]["why"]
    assert "No headline" in "\n".join(report_lines(figures))


def test_votes_of_two_raters_on_an_item_are_one_item(tmp_path: Path) -> None:
    def choose(rater: str, task: Any, item: Any) -> str:
        return "second" if rater == "anna" else "first"

    study, votes = voted(tmp_path, choose, overlap=1.0, items=10)
    counted = [one for one in unblind(study, votes) if one.task.kind == "vote"]
    assert len(counted) == 20 and item_signs(counted)[0] == [0] * 10
    figures = review_figures(study, votes, draws=200)
    assert figures["pairs"][0]["ties"] == 10
    assert figures["agreement"]["percent"] == 0.0 and figures["agreement"]["alpha_nominal"]["value"] < 0
    assert figures["agreement"]["cohen_kappa"][0] == {
        "raters": ["anna", "ben"], "items": 10, "agree": 0, "kappa": 0.0
    }  # fmt: skip


def test_guessing_raters_get_no_headline_and_good_raters_do(tmp_path: Path) -> None:
    study, votes = voted(tmp_path, guess(1), overlap=1.0, items=57)
    figures = review_figures(study, votes, draws=500)
    alpha = figures["agreement"]["alpha_ordinal"]
    assert alpha["low"] <= 0 <= alpha["high"] and not figures["headline"]["allowed"]
    assert "cannot be told from chance" in figures["headline"]["why"]
    study, votes = voted(tmp_path, noisy(1, 0.95), overlap=1.0, items=57)
    figures = review_figures(study, votes, draws=500)
    assert figures["headline"] == {"allowed": True, "why": ""}
    assert report_lines(figures)[2].startswith("Raters prefer **ours** to base in ")
    assert figures == review_figures(study, votes, draws=500)
    json.dumps(figures, allow_nan=False)


def test_a_headline_needs_agreement_above_chance() -> None:
    alpha = {"value": 0.3, "low": 0.0, "high": 0.6}
    assert headline_decision({"alpha_ordinal": alpha})["allowed"] is False
    assert headline_decision({"alpha_ordinal": {**alpha, "low": 0.01}})["allowed"] is True
    assert headline_decision({"alpha_ordinal": None})["allowed"] is False
    assert (
        headline_decision({"alpha_ordinal": {"value": -0.5, "low": -0.8, "high": -0.1}})["allowed"] is False
    )


def test_a_rater_who_follows_the_side_is_found(tmp_path: Path) -> None:
    study = planned(tmp_path, items=57, repeats=0.3, overlap=0.0)
    store = VoteStore(tmp_path / "v", study.hash)
    for rater in study.tasks:
        for task in study.tasks[rater]:
            side = (
                "left" if rater == "anna" or study.item_of(task).texts[not task.first_left] < "S" else "right"
            )
            store.append(Vote(str(uuid.uuid4()), rater, task.id, side, seconds=30))
    anna, ben = review_figures(study, store.votes(), draws=100)["raters"]
    assert anna["position"]["value"] == 1.0 and anna["position"]["holm_p"] < 1e-6
    assert anna["repeats"]["same_side"]["value"] == 1.0 and anna["repeats"]["same"]["value"] == 0.0
    assert ben["position"]["holm_p"] > 0.01
    assert anna["position"]["p"] == pytest.approx(
        binomtest(anna["position"]["count"], anna["position"]["n"]).pvalue
    )


def test_a_rater_who_knows_what_they_prefer_repeats_it_on_the_other_side(tmp_path: Path) -> None:
    study, votes = voted(tmp_path, noisy(2, 1.0), items=57, repeats=0.3)
    for one in review_figures(study, votes, draws=100)["raters"]:
        assert one["repeats"]["same"]["value"] == 1.0 and one["repeats"]["same_side"]["value"] == 0.0
        assert one["repeats"]["kappa"] == 1.0


def test_gold_speed_and_drift(tmp_path: Path) -> None:
    study = planned(tmp_path, items=57, gold=0.3, overlap=0.0)
    store = VoteStore(tmp_path / "v", study.hash)
    for rater in study.tasks:
        own = study.tasks[rater]
        items = [task for task in own if task.kind == "vote"]
        for task in own:
            item = study.item_of(task)
            late = task in items and items.index(task) >= len(items) // 2
            wanted = "tie" if late and rater == "ben" else attentive(rater, task, item)
            if item.gold is not None and rater == "ben":
                wanted = ("second", "first")[item.gold]
            sides = [side for side in ("left", "right") if outcome_of(side, task.first_left) == wanted]
            seconds = 0.4 if rater == "ben" else 60.0
            store.append(Vote(str(uuid.uuid4()), rater, task.id, (sides or ["tie"])[0], seconds=seconds))  # type: ignore[arg-type]
    anna, ben = review_figures(study, store.votes(), draws=100)["raters"]
    assert (anna["gold"]["value"], ben["gold"]["value"]) == (1.0, 0.0) and anna["gold"]["n"] >= 5
    assert (anna["too_fast"]["value"], ben["too_fast"]["value"]) == (0.0, 1.0)
    assert (anna["median_seconds"], ben["median_seconds"]) == (60.0, 0.4)
    drift = ben["drift"]["undecided"]
    half, rest = drift["first_half"]["n"], drift["second_half"]["n"]
    assert drift["p"] == pytest.approx(fisher_exact([[0, half], [rest, 0]]).pvalue)
    assert drift["holm_p"] < 0.05 < anna["drift"]["undecided"]["holm_p"]
    lines = "\n".join(report_lines(review_figures(study, store.votes(), draws=100)))
    assert "undecided changes over time: 0% in the first half, 100% in the second" in lines


def test_the_course_of_a_rater_is_drawn_in_blocks(tmp_path: Path) -> None:
    """S2-63: anna chooses left in the second half of her votes; the points of the chart are those of the votes."""
    study = planned(tmp_path, prompts=200, items=120, overlap=1.0, repeats=0.0, gold=0.0, calibration=0)
    turn: Counter[str] = Counter()

    def choose(rater: str, task: Any, item: Any) -> str:
        turn[rater] += 1
        drifts = rater == "anna" and turn[rater] > len(study.tasks["anna"]) / 2
        return outcome_of("left", task.first_left) if drifts else ("first", "second")[turn[rater] % 2]

    store = VoteStore(tmp_path / "votes.sqlite", study.hash)
    votes = cast(store, study, choose)
    figures = review_figures(study, votes, draws=50)
    anna = next(one for one in figures["raters"] if one["rater"] == "anna")
    blocks = anna["over_time"]["left"]
    own = [vote for vote in votes if vote.rater == "anna"]
    assert len(blocks) == 12 and blocks[-1][0] == len(own) == 120
    start = 0
    for end, share, count in blocks:
        part = own[start:end]
        assert (share, count) == (sum(vote.choice == "left" for vote in part) / len(part), len(part))
        start = end
    assert all(share == 1.0 for _, share, _ in blocks[6:]) and any(share < 1.0 for _, share, _ in blocks[:6])
    assert anna["over_time"]["seconds"][0][1] == 30.0
    charts = drift_charts(figures["raters"])
    assert [chart["title"] for chart in charts][:2] == ["Chooses left", "Ties and both bad"]
    assert charts[0]["series"][0] == {
        "label": "anna",
        "metric": "left",
        "points": [[end, share] for end, share, _ in blocks],
    }
    assert "by up to 31 points" in charts[0]["caption"]  # 1.96 · √(0.25 / 10)


def test_the_report_is_a_page(tmp_path: Path) -> None:
    folder = ReviewFolder(tmp_path / "R")
    folder.root.mkdir()
    study = open_study(review_config(tmp_path, prompts=200, items=120, overlap=1.0), folder)
    store = VoteStore(folder.votes, study.hash)
    cast(store, study, noisy(3, 0.9))
    store.close()
    figures = lock_and_report(folder)
    data = read_page(folder.page)
    assert faults(data, SCHEMA) == []
    rate = figures["pairs"][0]["win_rate_decided"]["value"]
    assert "Raters prefer ours to base" in data["headline"]["sentence"]["text"]
    assert data["headline"]["numbers"][0]["value"] == f"{100 * rate:.0f} %"
    texts = [block.get("text", "") for block in data["sections"][0]["blocks"]]
    assert "Agreement of raters" in texts and any(text.startswith("win rate of decided") for text in texts)
    (stage,) = data["stages"]
    assert (stage["kind"], stage["steps"]) == ("review", max(len(own) for own in study.tasks.values()) - 6)
    assert [series["label"] for series in stage["charts"][0]["series"]] == ["anna", "ben"]


def test_few_votes_have_no_course(tmp_path: Path) -> None:
    study, votes = voted(tmp_path, attentive)
    assert drift_charts(review_figures(study, votes, draws=50)["raters"]) == []


def test_fast_votes_and_named_models_are_left_out_for_comparison(tmp_path: Path) -> None:
    study = planned(tmp_path, raters=["anna"])
    items = {
        i: replace(item, names_model=int(i[1:]) % 2 == 0) if i.startswith("i") else item
        for i, item in study.items.items()
    }
    study = replace(study, items=items)
    store = VoteStore(tmp_path / "v", study.hash)
    cast(store, study, lambda rater, task, item: "second" if item.names_model else "first")
    by_label = {
        one["label"]: one for one in review_figures(study, store.votes(), draws=50)["pairs"][0]["sensitivity"]
    }
    assert by_label["without items that name a model"]["wins"] == 0
    assert by_label["without votes faster than reading"]["wins"] > 0


def test_strengths_of_three_policies(tmp_path: Path) -> None:
    config = review_config(tmp_path)
    third = tmp_path / "third.jsonl"
    rows = [json.loads(line) for line in (tmp_path / "base.jsonl").read_text().splitlines()]
    third.write_text(
        "".join(json.dumps(row | {"response": f"{row['response']} Third."}) + "\n" for row in rows)
    )
    policies = config.policies | {"third": type(config.policies["base"])(responses=str(third))}
    study = plan_study(config.model_copy(update={"policies": policies, "items": 90}), KEY)
    pairs = Counter(item.policies for item in study.items.values() if item.gold is None)
    assert set(pairs) == {("base", "ours"), ("base", "third"), ("ours", "third")}
    draw = random.Random(0)
    rank = {"base": 0.0, "ours": 1.0, "third": 2.0}

    def choose(rater: str, task: Any, item: Any) -> str:
        a, b = (rank.get(name, 0.0) for name in item.policies)
        return "second" if draw.random() < 1 / (1 + 2.718 ** (a - b)) else "first"

    store = VoteStore(tmp_path / "v", study.hash)
    cast(store, study, choose)
    figures = review_figures(study, store.votes(), draws=200)
    base, ours, best = figures["strengths"]
    assert base["value"] == 0.0 and 0 < ours["value"] < best["value"] and best["low"] > 0
    assert [pair["left"] for pair in figures["pairs"]] == ["base", "base", "ours"]


def test_calibration_decides_who_goes_on(tmp_path: Path) -> None:
    study = planned(tmp_path)
    store = VoteStore(tmp_path / "v", study.hash)
    session = ReviewSession(study, store)
    wrong = lambda rater, task, item: ("second", "first")[item.gold] if item.gold is not None else "first"  # noqa: E731
    for rater, choose in (("anna", attentive), ("ben", wrong)):
        for _ in range(6):
            task = session.state(rater)["task"]
            known = study.by_task[task["id"]][1]
            assert known.kind == "calibration"
            wanted = choose(rater, known, study.item_of(known))
            side = "left" if outcome_of("left", known.first_left) == wanted else "right"
            session.submit(
                rater, {"uuid": str(uuid.uuid4()), "task": known.id, "choice": side, "seconds": 30.0}
            )
    assert calibration_of(study, store.votes(), "anna").status == "go"
    stopped = calibration_of(study, store.votes(), "ben")
    assert stopped.status == "no-go" and "gold right" in stopped.why and stopped.gold == 2
    assert session.state("anna")["task"] is not None
    assert session.state("ben")["task"] is None and session.state("ben")["message"] == STOPPED
    later = study.tasks["ben"][6].id
    given = {"uuid": str(uuid.uuid4()), "task": later, "choice": "left", "seconds": 30.0}
    with pytest.raises(VoteRefused):
        session.submit("ben", given)
    accepted = ReviewSession(study, store, ["ben"])
    assert accepted.state("ben")["task"]["id"] == later and accepted.submit("ben", given).number == 13


def test_calibration_stops_who_votes_faster_than_reading(tmp_path: Path) -> None:
    study = planned(tmp_path)
    store = VoteStore(tmp_path / "v", study.hash)
    for task in study.tasks["anna"][:6]:
        item = study.item_of(task)
        side = "left" if outcome_of("left", task.first_left) == attentive("", task, item) else "right"
        store.append(Vote(str(uuid.uuid4()), "anna", task.id, side, seconds=0.3))
    found = calibration_of(study, store.votes(), "anna")
    assert (found.status, found.too_fast) == ("no-go", 6) and "faster" in found.line()
    assert calibration_of(study, store.votes(), "ben").status == "unfinished"
    assert calibration_of(planned(tmp_path, calibration=0), [], "anna").status == "none"


def test_the_session_ends(tmp_path: Path) -> None:
    study = planned(tmp_path, items=3)
    store = VoteStore(tmp_path / "v", study.hash)
    cast(store, study, attentive)
    state = ReviewSession(study, store).state("anna")
    assert state["message"] == FINISHED and state["done"] == state["total"] and state["task"] is None


def test_the_lock_is_final_and_sees_changes(tmp_path: Path) -> None:
    folder = ReviewFolder(tmp_path / "R")
    (tmp_path / "R").mkdir()
    study = open_study(review_config(tmp_path), folder)
    with pytest.raises(UserError, match="there are no votes"):
        lock_and_report(folder)
    store = VoteStore(folder.votes, study.hash)
    cast(store, study, attentive, raters=["anna"])
    store.close()
    with pytest.raises(UserError, match="items are open"):
        lock_and_report(folder)
    with pytest.raises(UserError, match="not locked"):
        read_locked_votes(folder)
    assert main(["review", "export", str(folder.root), "--out", str(tmp_path / "p.jsonl")]) == 2
    figures = lock_and_report(folder, early=True)
    assert lock_and_report(folder) == figures and folder.markdown.read_text().startswith("# Blinded review")
    store = VoteStore(folder.votes, study.hash)
    cast(store, study, attentive, raters=["ben"])
    store.close()
    with pytest.raises(UserError, match="not those that were locked"):
        read_locked_votes(folder)


def _ceiling(path: Path) -> dict[str, Any] | None:
    """The human ceiling that a card finds in a file of pairs."""
    pairs = read_pairs(str(path))
    return ceiling_section(ScoredPairs(pairs, np.tile([1.0, 0.0], (len(pairs), 1))))


def test_votes_become_pairs(tmp_path: Path) -> None:
    kinds = ["second", "first", "tie", "both_bad", "skip", "against"]

    def choose(rater: str, task: Any, item: Any) -> str:
        if item.id not in places:
            return "second"
        kind = kinds[places.index(item.id) % 6]
        return ("first" if rater == "anna" else "second") if kind == "against" else kind

    study = planned(tmp_path, items=24, overlap=1.0)
    places = sorted({task.item for own in study.tasks.values() for task in own if task.kind == "vote"})
    store = VoteStore(tmp_path / "v", study.hash)
    cast(store, study, choose, strength=2, reasons=("clear",))
    exported = export_pairs(study, store.votes())
    assert exported.counts == {"pairs": 8, "ties": 4, "both_bad": 4, "skipped": 4, "contradicting": 4}
    assert {row["contradictions_left_out"] for row in exported.rows} == {4}
    row = next(row for row in exported.rows if row["chosen_policy"] == "ours")
    item = next(i for i in study.items.values() if i.prompt_id == row["id"] and i.id in places)
    assert (
        row["chosen"] == [{"role": "assistant", "content": item.texts[1]}]
        and row["rejected_policy"] == "base"
    )
    assert (row["preference_strength"], row["raters"], row["reasons"]) == (2.0, 2, ["clear"])
    assert row["individual_preference"] == [{"rater": 1, "score": -2.0}, {"rater": 2, "score": -2.0}]
    assert row["study"] == study.hash and row["source"] == "human-review"
    kind_of = {study.items[one].prompt_id: kinds[i % 6] for i, one in enumerate(places)}
    winners = {"second": "ours", "first": "base"}
    assert [row["chosen_policy"] for row in exported.rows] == [
        winners[kind_of[row["id"]]] for row in exported.rows
    ]
    lost = next(row for row in exported.rows if row["chosen_policy"] == "base")
    assert [one["score"] for one in lost["individual_preference"]] == [-2.0, -2.0]
    kept = export_pairs(study, store.votes(), "keep")
    assert kept.counts == {
        "pairs": 16, "ties_kept": 4, "contradicting_kept": 4, "both_bad": 4, "skipped": 4
    }  # fmt: skip
    assert sum(row["preference_strength"] == 0 for row in kept.rows) == 8
    assert not any("contradictions_left_out" in row for row in kept.rows)
    torn = next(
        row for row in kept.rows if {one["score"] for one in row["individual_preference"]} == {-2.0, 2.0}
    )
    assert torn["preference_strength"] == 0
    write_pairs(tmp_path / "kept.jsonl", kept, "here")
    ceiling = _ceiling(tmp_path / "kept.jsonl")
    assert ceiling is not None and ceiling["rows"] == 16
    # Eight items on which both agree, four on which they contradict each other; ties decide nothing.
    assert (ceiling["raters"]["cases"], ceiling["raters"]["agreement"]) == (24, 16 / 24)
    assert "8 pairs, 4 ties left out, 4 items that are both bad" in exported.line()
    write_pairs(tmp_path / "p.jsonl", exported, "here")
    assert _ceiling(tmp_path / "p.jsonl") is None, "rows selected by agreement say nothing of it"
    with pytest.raises(UserError, match="no vote decides"):
        write_pairs(tmp_path / "p.jsonl", export_pairs(study, []), "here")


def test_calibration_gold_and_repeats_are_in_no_win_rate_and_no_pair(tmp_path: Path) -> None:
    def choose(rater: str, task: Any, item: Any) -> str:
        return "second" if task.kind == "vote" else "first"

    study, votes = voted(tmp_path, choose, gold=0.3, repeats=0.3)
    (pair,) = review_figures(study, votes, draws=50)["pairs"]
    assert (pair["wins"], pair["losses"]) == (20, 0)
    exported = export_pairs(study, votes)
    assert len(exported.rows) == 20 and {row["chosen_policy"] for row in exported.rows} == {"ours"}


def test_no_sentence_says_more_than_the_votes(tmp_path: Path) -> None:
    def equal_where_two_judge(study: Study) -> Chooser:
        twice = Counter(task.item for own in study.tasks.values() for task in own if task.kind == "vote")
        draw = random.Random(0)
        return lambda rater, task, item: "second" if twice[item.id] > 1 else draw.choice(["first", "second"])

    study = planned(tmp_path)
    store = VoteStore(tmp_path / "equal", study.hash)
    cast(store, study, equal_where_two_judge(study))
    figures = review_figures(study, store.votes(), draws=200)
    assert {pair["losses"] > 0 for pair in figures["pairs"]} == {True}
    assert "all votes on the items that two raters judged are equal" in report_lines(figures)[2]

    store = VoteStore(tmp_path / "skips", study.hash)
    cast(store, study, lambda *_: "skip")
    lines = report_lines(review_figures(study, store.votes(), draws=50))
    assert lines[2] == "No item was decided: all votes on compared items are skips."

    store = VoteStore(tmp_path / "calibration", study.hash)
    first = study.tasks["anna"][0]
    store.append(Vote(str(uuid.uuid4()), "anna", first.id, "left", seconds=30.0))
    lines = report_lines(review_figures(study, store.votes(), draws=50))
    assert lines[2] == "No item was decided: no compared item has a vote."


def test_no_policy_is_preferred_where_the_interval_holds_half(tmp_path: Path) -> None:
    study, votes = voted(tmp_path, noisy(1, 0.95), overlap=1.0, items=57)
    figures = review_figures(study, votes, draws=500)
    assert report_lines(figures)[2].startswith("Raters prefer **ours**")
    figures["pairs"][0]["win_rate_decided"] |= {"value": 0.45, "low": 0.3, "high": 0.6}
    assert report_lines(figures)[2].startswith("Raters are not shown to prefer")


def test_strengths_of_a_few_prompts_have_no_interval(tmp_path: Path) -> None:
    rows = [
        {"prompt_id": f"q{i}", "prompt": f"Q{i}?", "response": f"It is {i}, says {name}.", "model": name}
        for i in range(5)
        for name in ("base", "ours", "third")
    ]
    path = tmp_path / "all.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = {"policies": {"all": str(path)}, "raters": ["anna", "ben"], "calibration": 0}
    study = plan_study(ReviewConfig.model_validate(given), KEY)
    store = VoteStore(tmp_path / "v", study.hash)
    draw = random.Random(1)
    cast(store, study, lambda *_: draw.choice(["first", "second", "tie"]))
    figures = review_figures(study, store.votes(), draws=200)
    assert [(one["low"], one["high"]) for one in figures["strengths"][1:]] == [(None, None)] * 2
    assert "Too few prompts" in "\n".join(report_lines(figures))
