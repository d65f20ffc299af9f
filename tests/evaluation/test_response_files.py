"""Responses of several files are matched to the same prompts, and nothing is dropped without a word."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from harken.config.evaluation import EvaluatedPolicy, EvaluationConfig
from harken.data.conversations import user_turn
from harken.data.external_responses import ExternalResponse, read_external_responses
from harken.errors import UserError
from harken.evaluation.response_files import (
    fingerprint_rows,
    match_files,
    number_columns,
    read_policies,
    repeated_texts,
)
from harken.evaluation.scorers import find_scorers
from harken.records import Message, Prompt


def external(**keys: Any) -> ExternalResponse:
    prompt = keys.pop("prompt", None)
    plain = {
        "where": "f:1", "generator": "", "id": None, "text": "yes", "sample": None, "stop": None, "tokens": None,
        "messages": user_turn(prompt) if prompt is not None else (),
    }  # fmt: skip
    return ExternalResponse(**{**plain, **keys})


def test_files_in_another_order_with_other_ids_are_matched_by_text() -> None:
    a = [external(id=f"a{i}", prompt=f"Question  {i} ", text=f"A{i}") for i in range(6)]
    b = [external(prompt=f"Question {i}", text=f"B{i}") for i in range(6)]
    random.Random(0).shuffle(b)
    found = match_files({"a": a, "b": b}, None, None)
    assert [p.id for p in found.prompts] == [f"a{i}" for i in range(6)]
    for i in range(6):
        assert found.responses["a"][f"a{i}"][0].text == f"A{i}"
        assert found.responses["b"][f"a{i}"][0].text == f"B{i}"


def test_ids_alone_are_matched_to_a_file_with_texts_in_either_order() -> None:
    with_text = [external(id=str(i), prompt=f"Q{i}", text=f"A{i}") for i in range(3)]
    alone = [external(id=str(i), text=f"B{i}") for i in (2, 0, 1)]
    for order in (("a", "b"), ("b", "a")):
        files = {"a": with_text, "b": alone}
        found = match_files({name: files[name] for name in order}, None, None)
        assert {p.id: p.last_user_message for p in found.prompts} == {"0": "Q0", "1": "Q1", "2": "Q2"}
        assert {p: rows[0].text for p, rows in found.responses["b"].items()} == {
            "0": "B0",
            "1": "B1",
            "2": "B2",
        }


def test_an_id_that_stands_for_two_prompts_is_refused() -> None:
    """Running numbers of two shuffled files would pair responses to different prompts, silently."""
    a = [external(id=str(i), prompt=f"Q{i}") for i in range(3)]
    b = [external(id=str(i), prompt=f"Q{2 - i}") for i in range(3)]
    with pytest.raises(UserError, match=r"prompt '0' is another text than in a: 'Q2', not 'Q0'"):
        match_files({"a": a, "b": b}, None, None)


def test_equal_texts_with_ids_of_their_own_stay_two_prompts() -> None:
    rows = [external(id="x", prompt="Same", text="1"), external(id="y", prompt="Same", text="2")]
    found = match_files({"a": rows}, None, None)
    assert [p.id for p in found.prompts] == ["x", "y"] and found.samples == 1
    others = [external(id="p", prompt="Same"), external(id="q", prompt="Same")]
    other = match_files({"a": rows, "b": others}, None, None)
    assert [p.id for p in other.prompts] == ["x", "y"]


def test_only_shared_prompts_are_kept_and_the_account_says_why() -> None:
    a = [external(id=str(i), prompt=f"Q{i}") for i in range(5)]
    b = [external(id=str(i), prompt=f"Q{i}", text=None if i == 4 else "ok") for i in range(1, 6)]
    found = match_files({"a": a, "b": b}, None, None)
    assert [p.id for p in found.prompts] == ["1", "2", "3"]
    assert found.counts["a"].sentence("a") == (
        "a: 3 of 5 responses used (2 to prompts that not all policies share)"
    )
    assert found.counts["b"].sentence("b") == (
        "b: 3 of 5 responses used (1 to prompts that not all policies share, 1 null)"
    )


def test_samples_are_those_that_every_file_has() -> None:
    a = [external(id=str(i), prompt=f"Q{i}", text=f"{s}", sample=s) for i in range(2) for s in (2, 0, 1)]
    b = [external(id=str(i), prompt=f"Q{i}", text=f"{s}") for i in range(2) for s in range(2)]
    found = match_files({"a": a, "b": b}, None, None)
    assert found.samples == 2
    assert [row.text for row in found.responses["a"]["0"]] == ["0", "1"]
    assert found.counts["a"].further_samples == 2
    assert match_files({"a": a, "b": b}, None, 1).samples == 1
    with pytest.raises(UserError, match="only 2 responses to some prompts, not 3"):
        match_files({"a": a, "b": b}, None, 3)


def test_given_prompts_are_the_only_ones() -> None:
    prompts = [Prompt("p0", user_turn("Q0")), Prompt("p1", user_turn("Q1"))]
    rows = [external(prompt="Q1"), external(id="p0"), external(prompt="Q9")]
    found = match_files({"a": rows}, prompts, None)
    assert [p.id for p in found.prompts] == ["p0", "p1"]
    assert found.counts["a"].other_prompts == 1


def test_a_prompt_whose_text_nobody_has_is_refused() -> None:
    with pytest.raises(UserError, match=r"no file has the text of prompt '3'.*Fix: set data.path"):
        match_files({"a": [external(id="3")], "b": [external(id="3")]}, None, None)
    with pytest.raises(UserError, match="no prompt has a response in all of a, b"):
        match_files({"a": [external(prompt="x")], "b": [external(prompt="y")]}, None, None)


def test_a_file_of_several_systems_stands_for_as_many_policies(tmp_path: Path) -> None:
    rows = [{"prompt": "Q", "response": g, "model": g} for g in ("base", "ours")]
    path = tmp_path / "all.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    both = read_policies({"f": EvaluatedPolicy(responses=str(path))})
    assert list(both["f"]) == ["base", "ours"]
    one = read_policies({"mine": EvaluatedPolicy(responses=str(path), generator="ours")})
    assert [row.text for row in one["mine"]["mine"]] == ["ours"]
    with pytest.raises(UserError, match="no row is of 'theirs'; there are 'base', 'ours'"):
        read_policies({"mine": EvaluatedPolicy(responses=str(path), generator="theirs")})
    with pytest.raises(UserError, match="two policies are called 'ours'"):
        read_policies({"ours": EvaluatedPolicy(model_name="x"), "f": EvaluatedPolicy(responses=str(path))})


def test_the_fingerprint_is_of_everything_that_was_read(tmp_path: Path) -> None:
    row = {"prompt": "Q", "response": "A", "reward": 1.0, "domain": "x", "finish_reason": "stop"}
    changes: list[dict[str, Any]] = [
        {}, {"prompt": "R"}, {"response": "B"}, {"reward": 2.0}, {"domain": "y"}, {"finish_reason": "length"}
    ]  # fmt: skip
    prints = set()
    for number, change in enumerate(changes):
        path = tmp_path / f"{number}.jsonl"
        path.write_text(json.dumps(row | change) + "\n")
        prints.add(fingerprint_rows(read_external_responses(str(path))))
    assert len(prints) == len(changes)


def turns(*texts: str, system: str = "") -> tuple[Message, ...]:
    start = (Message("system", system),) if system else ()
    talk = [m for text in texts for m in (Message("user", text), Message("assistant", "ok"))]
    return (*start, *talk[:-1])


def test_one_id_is_one_conversation_and_not_only_one_last_turn() -> None:
    """Conversations often end in "continue": their ids must not pair different ones."""
    a = [external(id="1", messages=turns("Write about owls", "continue"))]
    b = [external(id="1", messages=turns("Write about cats", "continue"))]
    with pytest.raises(UserError, match="'Write about cats', not 'Write about owls'"):
        match_files({"a": a, "b": b}, None, None)
    last_turn_only = [external(id="1", messages=turns("continue"))]
    other_system = [external(id="1", messages=turns("Write about owls", "continue", system="Be kind"))]
    for other in (last_turn_only, other_system):
        assert len(match_files({"a": a, "b": other}, None, None).prompts) == 1


def test_whole_numbers_are_ids_and_names_of_systems_in_every_type(tmp_path: Path) -> None:
    """A column of whole numbers with a gap is read as floats, and CSV as text."""
    path = tmp_path / "all.jsonl"
    rows = [{"id": i, "model": m, "prompt": "q", "response": "r"} for i in (1, 2.0, "3") for m in (1, 2.0)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_policies({"theirs": EvaluatedPolicy(responses=str(path))})["theirs"]
    assert {name: [row.id for row in own] for name, own in found.items()} == {
        "1": ["1", "2", "3"],
        "2": ["1", "2", "3"],
    }


def test_prompts_of_equal_text_are_counted() -> None:
    prompts = [Prompt(str(i), user_turn(text)) for i, text in enumerate(("a", "b", " a ", "a"))]
    assert repeated_texts(prompts) == 2
    assert repeated_texts(prompts[:2]) == 0


def scored(*rewards: float | None, text: str | None = "yes") -> list[ExternalResponse]:
    return [external(text=text, values={} if value is None else {"reward": value}) for value in rewards]


@pytest.mark.parametrize(
    ("first", "second", "scorer"),
    [
        (scored(1, 2), scored(3, 4), "reward"),
        (scored(1, 2), scored(3) + scored(None, text=None), "reward"),  # a failed response needs no reward
        (scored(1, 2), scored(None, None), "intact"),  # one file has none
        (scored(1, 2), scored(3, None), None),
    ],
)
def test_the_rule_never_takes_the_place_of_a_column_with_gaps(
    first: list[ExternalResponse], second: list[ExternalResponse], scorer: str | None
) -> None:
    config = EvaluationConfig(policies={"a": "a.jsonl", "b": "b.jsonl"})
    columns = [number_columns(rows) for rows in (first, second)]
    if scorer is None:
        with pytest.raises(UserError, match=r"'reward' has no number in 1 of the rows.*--scorer intact"):
            find_scorers(config, columns)
    else:
        assert find_scorers(config, columns).first == scorer
