"""The plan of a review: which items are drawn, who judges them, and on which sides."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from review.reviewed import KEY, planned, review_config, write_responses

from harken.card.edits import repeat_last_sentence
from harken.config.review import ReviewConfig
from harken.errors import UserError
from harken.review import gold
from harken.review.assignment import SIDE_BLOCK
from harken.review.items import collect_items, draw_items, find_model_names
from harken.review.plan import detectable_text, power_lines, study_lines, votes_needed
from harken.review.study import Study, open_study, plan_study, read_study
from harken.run.folder import ReviewFolder


def kinds(study: Study, rater: str, kind: str) -> list[str]:
    return [task.item for task in study.tasks[rater] if task.kind == kind]


def test_equal_responses_are_left_out_and_strata_are_drawn_in_proportion(tmp_path: Path) -> None:
    pool = collect_items(review_config(tmp_path))
    assert len(pool.items) == 57 and pool.left_out == {"equal texts": 3}
    drawn, rest = draw_items(pool.items, 20, seed=1)
    assert len(drawn) == 20 and len(rest) == 37 and not {i.id for i in drawn} & {i.id for i in rest}
    assert Counter(item.stratum for item in drawn) == {"a": 9, "b": 11}  # of 27 and 30
    assert draw_items(pool.items, 20, seed=1)[0] == drawn != draw_items(pool.items, 20, seed=2)[0]


def test_every_item_has_a_rater_and_a_share_has_two(tmp_path: Path) -> None:
    study = planned(tmp_path, raters=["anna", "ben", "cleo"], items=40, overlap=0.25)
    judged = Counter(item for rater in study.tasks for item in kinds(study, rater, "vote"))
    assert len(judged) == 40 and Counter(judged.values()) == {1: 30, 2: 10}
    for rater in study.tasks:
        votes = kinds(study, rater, "vote")
        assert len(set(votes)) == len(votes)
    pairs = Counter(
        tuple(sorted(r for r in study.tasks if item in kinds(study, r, "vote")))
        for item, n in judged.items()
        if n == 2
    )
    assert len(pairs) == 3  # every two raters share items


def test_sides_are_balanced_within_blocks_and_depend_on_the_key(tmp_path: Path) -> None:
    study = planned(tmp_path, items=50, raters=["anna"], repeats=0.0, gold=0.0)
    sides = [task.first_left for task in study.tasks["anna"] if task.kind == "vote"]
    assert len(sides) == 50
    for start in range(0, 48, SIDE_BLOCK):
        assert sum(sides[start : start + SIDE_BLOCK]) == SIDE_BLOCK // 2
    other = plan_study(study.config, b"\1" * 32)
    assert [t.item for t in other.tasks["anna"]] == [t.item for t in study.tasks["anna"]]
    assert [t.first_left for t in other.tasks["anna"]] != [t.first_left for t in study.tasks["anna"]]
    assert not {t.id for t in other.tasks["anna"]} & {t.id for t in study.tasks["anna"]}


def test_the_side_of_an_item_differs_between_raters(tmp_path: Path) -> None:
    study = planned(tmp_path, items=57, overlap=1.0)
    side = {r: {t.item: t.first_left for t in own if t.kind == "vote"} for r, own in study.tasks.items()}
    shared = set(side["anna"]) & set(side["ben"])
    equal = sum(side["anna"][item] == side["ben"][item] for item in shared)
    assert len(shared) == 57 and 14 < equal < 43


def test_repeats_come_later_with_the_sides_swapped(tmp_path: Path) -> None:
    study = planned(tmp_path, items=57, overlap=0.0, repeats=0.2)
    for own in study.tasks.values():
        places = {task.item: (i, task) for i, task in enumerate(own) if task.kind == "vote"}
        repeats = [(i, task) for i, task in enumerate(own) if task.kind == "repeat"]
        assert len(repeats) == round(0.2 * len(places))
        for i, task in repeats:
            first, original = places[task.item]
            assert task.first_left is not original.first_left and i - first >= len(own) // 8


def test_gold_is_never_one_of_the_items_that_are_compared(tmp_path: Path) -> None:
    study = planned(tmp_path, items=20, gold=0.3)
    voted = {item for rater in study.tasks for item in kinds(study, rater, "vote")}
    golden = {item for rater in study.tasks for item in kinds(study, rater, "gold")}
    assert golden and not golden & voted and study.counts["gold"]["audit"] >= 1
    prompts = {study.items[item].prompt_id for item in voted}
    for item in golden:
        found = study.items[item]
        if found.gold_source == gold.FROM_AUDIT:
            assert found.prompt_id not in prompts
            assert "rains again" in found.texts[1 - int(found.gold or 0)]


def test_gold_is_made_where_every_prompt_was_drawn(tmp_path: Path) -> None:
    study = planned(tmp_path, items=57)
    assert set(study.counts["gold"]) == {gold.FROM_COPY}
    for item in study.items.values():
        if item.gold is not None:
            good, bad = item.texts[item.gold], item.texts[1 - item.gold]
            assert (
                bad == repeat_last_sentence(good, gold.GOLD_REPEATS)
                and bad.count(good) == 1 + gold.GOLD_REPEATS
            )


def test_gold_comes_from_a_file(tmp_path: Path) -> None:
    rows = [{"prompt": f"Q{i}", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(9)]
    (tmp_path / "gold.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    study = planned(tmp_path, gold_path=str(tmp_path / "gold.jsonl"))
    golden = [item for item in study.items.values() if item.gold is not None]
    assert golden and all(item.texts[item.gold or 0].startswith("good") for item in golden)
    assert {item.gold for item in golden} == {0, 1}  # the place in the item says nothing


def test_pairs_are_judged_again(tmp_path: Path) -> None:
    rows = [{"prompt": f"Q{i}", "chosen": f"yes {i}", "rejected": f"no {i}"} for i in range(9)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    study = planned(tmp_path, policies={}, pairs_path=str(tmp_path / "pairs.jsonl"))
    assert study.policies == ["chosen", "rejected"] and study.counts["items"] == 9


def test_a_study_is_kept_and_an_edited_one_is_refused(tmp_path: Path) -> None:
    config = review_config(tmp_path)
    folder = ReviewFolder(tmp_path / "review")
    study = open_study(config, folder)
    again = open_study(config, folder)
    assert again.to_dict() == study.to_dict() and again.key == study.key != KEY
    with pytest.raises(UserError, match=r"other settings: .*items"):
        open_study(config.model_copy(update={"items": 5}), folder)
    write_responses(tmp_path, prompts=59)
    with pytest.raises(UserError, match="responses have changed"):
        open_study(config, folder)
    edited = json.loads(folder.study.read_text())
    edited["tasks"]["anna"][0]["first_left"] ^= True
    folder.study.write_text(json.dumps(edited))
    with pytest.raises(UserError, match="edited or damaged"):
        read_study(folder)


def test_one_policy_and_models_are_refused(tmp_path: Path) -> None:
    base, _ = write_responses(tmp_path)
    with pytest.raises(UserError, match="one policy only"):
        planned(tmp_path, policies={"base": base})
    with pytest.raises(ValueError, match="not a file of responses"):
        review_config(tmp_path, policies={"base": base, "sft": "outputs/01_sft"})


def test_the_plan_states_what_the_votes_can_show(tmp_path: Path) -> None:
    study = planned(tmp_path)
    assert votes_needed(study.config, 100) == round(125 * 1.15) + 12
    table = "\n".join(power_lines(study.config))
    assert " 785 " in table and " 197 " in table  # decided items for 55 % and 60 %
    lines = "\n".join(study_lines(study))
    assert "about 16 decided items" in lines and "25 on items (5 twice)" in lines
    assert "agreement cannot be measured" in "\n".join(study_lines(planned(tmp_path, raters=["anna"])))


def test_names_of_models_are_found() -> None:
    assert find_model_names("As Qwen, I cannot.", ()) and find_model_names("ours says so", ("ours",))
    assert not find_model_names("Four hours of rain", ("ours",)) and not find_model_names(
        "chosen", ("chosen",)
    )


def test_pairs_that_changed_are_no_longer_the_study(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"Q{i}?", "chosen": f"It is {i}.", "rejected": f"It is not {i}."} for i in range(9)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = ReviewConfig.model_validate({"pairs_path": str(path)})
    folder = ReviewFolder(tmp_path / "R")
    folder.root.mkdir()
    assert open_study(config, folder).hash == open_study(config, folder).hash
    rows[3]["chosen"] = "It is four."
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match="the responses have changed"):
        open_study(config, folder)


def test_few_decided_items_are_not_said_to_detect_anything() -> None:
    assert detectable_text(7) == "7 decided items, too few to detect any win rate"
    assert detectable_text(1).startswith("1 decided item,")
    assert detectable_text(8) == "8 decided items detect a win rate of 99.5%"
