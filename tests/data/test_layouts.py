"""Each layout: one row in, the records a person reading the row would expect."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harken.config.base import DataConfig
from harken.data import parse, sources
from harken.data.report import DataReport
from harken.errors import UserError
from harken.records import Message, Preference, TokenPair

USER, REPLY = {"role": "user", "content": "q"}, {"role": "assistant", "content": "good"}
BAD = {"role": "assistant", "content": "bad"}
HH_GOOD, HH_BAD = "\n\nHuman: q\n\nAssistant: good", "\n\nHuman: q\n\nAssistant: bad"
HELPSTEER = {"context": [USER], "response1": "good", "response2": "bad", "overall_preference": -2}


def write(folder: Path, *rows: Any) -> str:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def pairs(folder: Path, *rows: Any, **data: Any) -> tuple[list[Any], DataReport]:
    return parse.parse_preference_rows(DataConfig(path=write(folder, *rows), **data))


PAIRS = {
    "texts": ("prompt_chosen_rejected", {"prompt": "q", "chosen": "good", "rejected": "bad"}),
    "dialogue prompt": (
        "prompt_chosen_rejected",
        {"prompt": "\n\nHuman: q\n\nAssistant:", "chosen": " good", "rejected": " bad"},
    ),
    "dialogues that repeat the prompt": (
        "prompt_chosen_rejected",
        {"prompt": "q", "chosen": HH_GOOD, "rejected": HH_BAD},
    ),
    "messages": ("prompt_chosen_rejected", {"prompt": [USER], "chosen": [REPLY], "rejected": [BAD]}),
    "messages that repeat the prompt": (
        "prompt_chosen_rejected",
        {"prompt": "q", "chosen": [USER, REPLY], "rejected": [USER, BAD]},
    ),
    "HH": ("chosen_rejected", {"chosen": HH_GOOD, "rejected": HH_BAD}),
    "HelpSteer2": (
        "chosen_rejected",
        {"chosen": [USER, REPLY], "rejected": [USER, BAD], "preference_strength": 1},
    ),
    "HelpSteer3": ("helpsteer3", HELPSTEER | {"overall_preference": -1}),
    "HelpSteer3 aliases": (
        "helpsteer3",
        {"messages": [USER], "response_1": "bad", "response_2": "good", "overall_preference_score": "1"},
    ),
    "HelpSteer3 by its raters": (
        "helpsteer3",
        {
            "context": "q",
            "response1": "bad",
            "response2": "good",
            "individual_preference": [{"score": 2}, {"score": 0}],
        },
    ),
    "A/B": ("a_b_label", {"prompt": "q", "response_a": "good", "response_b": "bad", "label": "A"}),
    "A/B record": ("a_b_label", {"input": "q", "A": "bad", "B": "good", "preference": "b"}),
    "A/B with a 0/1 preference": (
        "a_b_label",
        {"prompt": "q", "answer_a": "bad", "answer_b": "good", "label": 0},
    ),
    "named winner": (
        "a_b_label",
        {"prompt": "q", "response_a": "bad", "response_b": "good", "winner": "model_b"},
    ),
    "LLMBar": ("a_b_label", {"input": "q", "output_1": "bad", "output_2": "good", "label": 2}),
    "PandaLM": (
        "a_b_label",
        {"instruction": "q", "input": "", "response1": "good", "response2": "bad"}
        | {"annotator1": 1, "annotator2": 0, "annotator3": 1},
    ),
    "ranking": ("ranking", {"prompt": "q", "responses": ["bad", "good"], "ranking": [2, 1]}),
}


@pytest.mark.parametrize("name", PAIRS)
def test_every_pair_layout_reads_the_same_pair(tmp_path: Path, name: str):
    """S0-05, S1-34, S2-10, S3-02; and supervised training takes the better side (S0-18)."""
    layout, row = PAIRS[name]
    [pair], report = pairs(tmp_path, row)
    assert report.layout == layout
    assert isinstance(pair, Preference)
    assert pair.prompt.messages == (Message("user", "q"),)
    assert (pair.chosen.strip(), pair.rejected.strip(), pair.label, pair.strength) == (
        "good",
        "bad",
        1.0,
        1.0,
    )
    data = DataConfig(path=write(tmp_path, row))
    [demonstration], _ = parse.parse_demonstration_rows(data)
    assert (demonstration.prompt, demonstration.response) == (pair.prompt, pair.chosen)
    [prompt], _ = parse.parse_prompt_rows(data)
    assert prompt == pair.prompt


@pytest.mark.parametrize(
    "row",
    [
        HELPSTEER | {"overall_preference": 0},
        {"chosen": [USER, REPLY], "rejected": [USER, BAD], "preference_strength": 0},
        {"prompt": "q", "response_a": "good", "response_b": "bad", "label": "tie"},
        {"prompt": "q", "response_a": "good", "response_b": "bad", "preference": 0.5},
        {"instruction": "q", "response1": "good", "response2": "bad", "annotator1": 1, "annotator2": 2},
        {"prompt": "q", "responses": ["good", "bad"], "ranking": [1, 1]},
    ],
)
def test_ties_stay_ties(tmp_path: Path, row: dict):
    """S2-06. A tie teaches supervised training nothing."""
    [pair], _ = pairs(tmp_path, row)
    assert (pair.chosen, pair.rejected, pair.label, pair.strength) == ("good", "bad", 0.5, 0.0)
    demonstrations, report = parse.parse_demonstration_rows(DataConfig(path=write(tmp_path, row)))
    assert not demonstrations and report.dropped == {"tie": 1}


def test_helpsteer3_sign_strength_raters_and_context(tmp_path: Path):
    """S0-05, S0-26."""
    row = HELPSTEER | {
        "context": [USER, {"role": "assistant", "content": "x"}, USER, REPLY, BAD],
        "overall_preference": 3,
        "individual_preference": [{"score": 3, "reasoning": "r"}, {"score": -1}, {"score": None}],
        "domain": "code",
        "language": "python",
    }
    [pair], report = pairs(tmp_path, row)
    assert (pair.chosen, pair.strength, pair.raters) == ("bad", 3.0, (3.0, -1.0))
    assert [m.role for m in pair.prompt.messages] == ["user", "assistant", "user"]
    assert report.shortened == {parse.RESPONSES_DROPPED: 1}
    assert (pair.prompt.domain, pair.prompt.language) == ("code", "python")
    assert report.agreement is not None and report.agreement.unanimous == 0


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q", "chosen": "good", "rejected": "bad"},
        {"chosen": [USER, REPLY], "rejected": [USER, BAD]},
    ],
)
def test_votes_beside_chosen_and_rejected_are_the_raters_of_the_pair(tmp_path: Path, row: dict):
    """Below 0 is for chosen. Rows that were selected by the agreement of their raters say nothing of it."""
    votes = [{"rater": 1, "score": -2.0}, {"rater": 2, "score": 1.0}, {"rater": 3, "score": None}]
    [pair], report = pairs(tmp_path, row | {"individual_preference": votes})
    assert pair.raters == (2.0, -1.0) and pair.label == 1.0
    assert report.agreement is not None and report.agreement.rows == 1
    [pair], report = pairs(tmp_path, row | {"individual_preference": votes, "contradictions_left_out": 2})
    assert pair.raters == () and report.agreement is None


def test_a_bare_preference_of_1_or_2_is_not_read_as_a_signed_score(tmp_path: Path):
    """ "preference": 1 says "the first", which a signed score would turn around."""
    sides = {"prompt": "q", "response_1": "one", "response_2": "two"}
    found, report = pairs(tmp_path, sides | {"preference": 1}, sides | {"preference": 2})
    assert (report.layout, [pair.chosen for pair in found]) == ("a_b_label", ["one", "two"])


def test_probabilities_become_soft_labels(tmp_path: Path):
    """S2-23."""
    [pair], _ = pairs(tmp_path, {"prompt": "q", "response_a": "bad", "response_b": "good", "label": 0.2})
    assert (pair.chosen, pair.label) == ("good", 0.8)


def test_soft_labels_from_raters(tmp_path: Path):
    row = {"instruction": "q", "response1": "bad", "response2": "good"} | {
        f"annotator{i}": v for i, v in enumerate("221", 1)
    }
    [pair], _ = sources.load_preferences(DataConfig(path=write(tmp_path, row)), soft=True)
    assert isinstance(pair, Preference)
    assert (pair.chosen, pair.label) == ("good", pytest.approx(2 / 3))


def test_ranking_of_three_gives_three_pairs(tmp_path: Path):
    """S3-02."""
    found, report = pairs(tmp_path, {"prompt": "q", "responses": ["b", "a", "c"], "ranking": [2, 1, 3]})
    assert [(p.chosen, p.rejected, p.strength) for p in found] == [
        ("a", "b", 1),
        ("a", "c", 2),
        ("b", "c", 1),
    ]
    assert (report.raw, report.kept) == (3, 3)


def test_pre_tokenised_pairs_lose_their_padding(tmp_path: Path):
    """S2-77."""
    row = {
        "input_ids_chosen": [0, 5, 6, 7],
        "attention_mask_chosen": [0, 1, 1, 1],
        "input_ids_rejected": [5, 6, 8, 0],
        "attention_mask_rejected": [1, 1, 1, 0],
    }
    [pair], _ = pairs(tmp_path, row)
    assert isinstance(pair, TokenPair)
    assert (pair.chosen_tokens, pair.rejected_tokens) == ((5, 6, 7), (5, 6, 8))
    for flaw, reason in [
        ({"attention_mask_chosen": [1]}, "wrong_type:attention_mask_chosen"),
        ({"input_ids_chosen": [-1]}, "wrong_type:input_ids_chosen"),
        ({"attention_mask_chosen": [0, 0, 0, 0]}, "empty_response"),
        (
            {"input_ids_rejected": [0, 5, 6, 7], "attention_mask_rejected": [0, 1, 1, 1]},
            "identical_responses",
        ),
    ]:
        assert pairs(tmp_path, row | flaw)[1].dropped == {reason: 1}
    assert pairs(tmp_path, row, max_length=2)[1].dropped == {"response_too_long": 1}
    with pytest.raises(UserError, match="prompt_only"):
        parse.parse_prompt_rows(DataConfig(path=write(tmp_path, row)))


DEMONSTRATIONS = {
    "prompt": ({"prompt": "q", "response": "a"}, "q"),
    "completion": ({"prompt": "q", "completion": "a"}, "q"),
    "instruction": ({"instruction": "q", "context": "", "response": "a"}, "q"),
    "instruction and context": ({"instruction": "q", "context": "c", "response": "a"}, "q\n\nc"),
    "alpaca": ({"instruction": "q", "input": "c", "output": "a"}, "q\n\nc"),
    "question": ({"question": "q", "answer": "a"}, "q"),
    "self-instruct": ({"instruction": "q", "instances": [{"input": "c", "output": "a"}]}, "q\n\nc"),
    "text": ({"text": "q\na"}, "q"),
    "text, a dialogue": ({"text": HH_GOOD.replace("good", "a")}, "q"),
    "messages": ({"messages": [USER, {"role": "assistant", "content": "a"}]}, "q"),
    "ShareGPT": ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}, "q"),
}


@pytest.mark.parametrize("name", DEMONSTRATIONS)
def test_every_demonstration_layout(tmp_path: Path, name: str):
    """S1-33, S2-75; as prompts the same rows never show their response (S1-29, S1-32)."""
    row, prompt = DEMONSTRATIONS[name]
    data = DataConfig(path=write(tmp_path, row))
    [found], _ = parse.parse_demonstration_rows(data)
    assert (found.prompt.messages, found.response) == ((Message("user", prompt),), "a")
    [alone], _ = parse.parse_prompt_rows(data)
    assert replace(alone, reference=None) == found.prompt
    assert alone.reference == ("a" if "answer" in row else None)


def test_messages_split_at_the_last_assistant_turn(tmp_path: Path):
    system = {"role": "system", "content": "s"}
    row = {"messages": [system, USER, BAD, USER, REPLY]}
    data = DataConfig(path=write(tmp_path, row, {"messages": [USER, BAD, USER]}))
    (first, second), _ = parse.parse_demonstration_rows(data)
    assert [m.content for m in first.prompt.messages] == ["s", "q", "bad", "q"] and first.response == "good"
    assert [m.content for m in second.prompt.messages] == ["q"] and second.response == "bad"
    (_, open_end), _ = parse.parse_prompt_rows(data)
    assert [m.content for m in open_end.messages] == ["q", "bad", "q"]


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ({"prompt": "plain"}, ["plain"]),
        ({"prompt": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:"}, ["a", "b", "c"]),
        ({"prompt": [USER]}, ["q"]),
        ({"messages": [USER]}, ["q"]),
        ({"instruction": "i", "context": "c"}, ["i\n\nc"]),
        ({"question": "q", "answer": ["gold"]}, ["q"]),
        ({"turns": ["first", "second"]}, ["first"]),
    ],
)
def test_every_prompt_layout(tmp_path: Path, row: dict, wanted: list[str]):
    """S1-29."""
    [prompt], _ = parse.parse_prompt_rows(DataConfig(path=write(tmp_path, row)))
    assert [m.content for m in prompt.messages] == wanted


def test_prompt_column_wins_over_the_layout(tmp_path: Path):
    """S1-32."""
    path = write(tmp_path, {"biased": "b", "prompt": "p", "response": "gold"}, {"prompt": "p"})
    prompts, report = parse.parse_prompt_rows(DataConfig(path=path, prompt_column="biased"))
    assert [p.last_user_message for p in prompts] == ["b"]
    assert report.dropped == {"missing_field:biased": 1}


def test_ids_details_and_names(tmp_path: Path):
    rows = [
        {"id": "x-1", "prompt": "a", "keywords": ["k"], "domain": "advice", "other": 1},
        {"id": 7, "prompt": "b", "details": {"level": 2}, "category": "facts"},
        {"id": True, "prompt": "c"},
        {"prompt": "d"},
    ]
    prompts, _ = parse.parse_prompt_rows(DataConfig(path=write(tmp_path, *rows)))
    assert [p.id for p in prompts[:2]] == ["x-1", "7"]
    assert [(p.domain, p.details) for p in prompts[:2]] == [
        ("advice", {"keywords": ["k"]}),
        ("facts", {"level": 2}),
    ]
    assert all(len(p.id) == 16 and int(p.id, 16) >= 0 for p in prompts[2:])
    assert prompts[2].id != prompts[3].id


FAULTS = [
    ({"prompt": "q", "chosen": "a", "rejected": " a "}, "identical_responses"),
    ({"prompt": "q", "chosen": "a", "rejected": "\n"}, "empty_response"),
    (
        {"prompt": "q", "chosen": [{"role": "user", "content": "other"}, REPLY], "rejected": "b"},
        "prompts_differ",
    ),
    ({"prompt": "q", "chosen": [USER], "rejected": "b"}, "no_response"),
    ({"prompt": "  ", "chosen": "a", "rejected": "b"}, "no_prompt"),
    ({"prompt": [REPLY], "chosen": "a", "rejected": "b"}, "no_prompt"),
    ({"prompt": "q", "chosen": "a", "rejected": None}, "missing_field:rejected"),
    ({"prompt": "q", "chosen": "a", "rejected": True}, "wrong_type:rejected"),
    ({"prompt": "q", "chosen": "a", "rejected": "\ud800"}, "not_unicode:rejected"),
    (
        {"prompt": [{"role": "narrator", "content": "q"}], "chosen": "a", "rejected": "b"},
        "unknown_role:prompt.role",
    ),
    ({"prompt": [{"role": "user"}], "chosen": "a", "rejected": "b"}, "missing_field:prompt.content"),
    (
        {"prompt": "q", "chosen": "a", "rejected": "b", "preference_strength": "x"},
        "wrong_type:preference_strength",
    ),
    ([1, 2], "not_an_object"),
    ("text", "not_an_object"),
]


@pytest.mark.parametrize(("row", "reason"), FAULTS)
def test_invalid_rows_are_dropped_with_their_reason(tmp_path: Path, row: Any, reason: str):
    """S0-16, S0-26. A good row beside a bad one is kept."""
    good = {"prompt": "q", "chosen": "a", "rejected": "b"}
    found, report = pairs(tmp_path, good, row)
    assert len(found) == 1 and report.dropped == {reason: 1}
    assert report.dropped_rows[0].where.endswith("rows.jsonl:2")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (HELPSTEER | {"overall_preference": None}, "unscored"),
        (
            HELPSTEER | {"overall_preference": "better", "individual_preference": [{"score": float("nan")}]},
            "unscored",
        ),
        (HELPSTEER | {"overall_preference": True}, "unscored"),
    ],
)
def test_unscored_helpsteer3_rows(tmp_path: Path, row: dict, reason: str):
    assert pairs(tmp_path, row, layout="helpsteer3")[1].dropped == {reason: 1}


@pytest.mark.parametrize("label", [2, -1, "C", "both", True, [1], 0.3])
def test_labels_are_never_guessed(tmp_path: Path, label: Any):
    lettered = {"prompt": "q", "response_a": "a", "response_b": "b", "label": label}
    numbered = {"prompt": "q", "output_1": "a", "output_2": "b", "label": label}
    for row in (lettered, numbered):
        if (row, label) in ((lettered, 0.3), (numbered, 2)):
            continue
        with pytest.raises(UserError, match=r"the labels of label cannot be read.*\(1\)"):
            pairs(tmp_path, row)


def test_a_word_that_names_no_side_drops_its_row_alone(tmp_path: Path):
    sides = {"prompt": "q", "response_a": "a", "response_b": "b"}
    found, report = pairs(tmp_path, sides | {"label": "B"}, sides | {"label": "C"})
    assert [pair.chosen for pair in found] == ["b"] and report.dropped == {"unknown_label": 1}


def test_the_response_begins_after_the_first_line(tmp_path: Path):
    """S2-75: the prompt is one line; the response may have several."""
    path = write(tmp_path, {"text": "q\na\nb"})
    (row,) = parse.parse_demonstration_rows(DataConfig(path=path))[0]
    assert (row.prompt.messages[-1].content, row.response) == ("q", "a\nb")


def test_text_without_a_newline_is_dropped(tmp_path: Path):
    """S2-75."""
    path = write(tmp_path, {"text": "q\na"}, {"text": "only a prompt"})
    assert parse.parse_demonstration_rows(DataConfig(path=path))[1].dropped == {"no_newline": 1}


def test_duplicate_prompts_are_dropped(tmp_path: Path):
    path = write(
        tmp_path, {"prompt": "a"}, {"prompt": "b", "id": "x"}, {"prompt": "a"}, {"prompt": "c", "id": "x"}
    )
    prompts, report = parse.parse_prompt_rows(DataConfig(path=path))
    assert len(prompts) == 2 and report.dropped == {"duplicate_prompt": 1, "duplicate_id": 1}


def test_auto_follows_the_many_not_the_first(tmp_path: Path):
    rows = [{"prompt": "broken"}] + [{"prompt": "q", "chosen": "a", "rejected": str(i)} for i in range(3)]
    found, report = pairs(tmp_path, *rows)
    assert report.layout == "prompt_chosen_rejected" and len(found) == 3
    assert report.dropped == {"missing_field:chosen": 1}


def test_unknown_layouts_list_the_known_ones(tmp_path: Path):
    path = write(tmp_path, {"spam": 1, "eggs": 2})
    with pytest.raises(UserError) as caught:
        sources.load_prompts(DataConfig(path=path))
    assert caught.value.where == path and "spam, eggs" in str(caught.value)
    assert "data.columns={prompt: " in str(caught.value) and "harken data --layouts" in str(caught.value)
    with pytest.raises(UserError, match=r"write .helpsteer3."):
        sources.load_preferences(DataConfig(path=path, layout="helpster"))


def test_no_usable_row_is_a_user_error(tmp_path: Path):
    path = write(tmp_path, *[{"prompt": "q", "chosen": "a", "rejected": "a"}] * 3)
    with pytest.raises(UserError, match="none of its 3 rows can be used: 3 identical_responses"):
        sources.load_preferences(DataConfig(path=path))


def test_a_stage_refuses_data_that_cannot_serve_it(tmp_path: Path):
    """S1-31."""
    path = write(tmp_path, {"prompt": "q"})
    with pytest.raises(UserError, match="cannot be read as 'preference'"):
        sources.load_preferences(DataConfig(path=path))
    with pytest.raises(UserError, match=r"^data\.task: it is 'sft'"):
        sources.load_prompts(DataConfig(path=path, task="sft"))
    assert sources.load_prompts(DataConfig(path=path, task="prompt_only"))[0]
