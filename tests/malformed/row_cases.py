"""Rows with one wrong field, in every layout: each is dropped alone, and named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from malformed.case import Case
from malformed.world import World

TURNS = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Yes."}]
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "tokenised_pairs": ("preference", {"input_ids_chosen": [5, 6], "input_ids_rejected": [5, 7]}),
    "helpsteer3": (
        "preference",
        {"context": TURNS[:1], "response1": "a", "response2": "b", "overall_preference": -2},
    ),
    "prompt_chosen_rejected": ("preference", {"prompt": "q", "chosen": "a", "rejected": "b"}),
    "chosen_rejected": (
        "preference",
        {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"},
    ),
    "a_b_label": ("preference", {"prompt": "q", "response_a": "a", "response_b": "b", "label": "A"}),
    "ranking": ("preference", {"prompt": "q", "responses": ["a", "b"], "ranking": [1, 2]}),
    "messages": ("sft", {"messages": TURNS}),
    "instances": ("sft", {"instruction": "q", "instances": [{"input": "", "output": "a"}]}),
    "instruction": ("sft", {"instruction": "q", "response": "a"}),
    "prompt": ("sft", {"prompt": "q", "response": "a"}),
    "question": ("sft", {"question": "q", "answer": "a"}),
    "turns": ("prompt_only", {"turns": ["q"]}),
    "text": ("sft", {"text": "q\na"}),
}
ABSENT = object()
WRONG: dict[str, Any] = {
    "absent": ABSENT,
    "null": None,
    "a boolean": True,
    "a section": {"a": 1},
    "a list of lists": [[[[]]]],
    "a number with an exponent": 1e300,
    "half a surrogate pair": "\ud800",
    "blank": " \n\t",
}


def rows(layout: str) -> list[tuple[str, dict[str, Any]]]:
    """Every row of a layout with one wrong field, under a name."""
    _, good = ROWS[layout]
    corrupted = []
    for field in good:
        for name, value in WRONG.items():
            row = {key: kept for key, kept in good.items() if key != field}
            if value is not ABSENT:
                row[field] = value
            corrupted.append((f"{field}: {name}", row))
    return corrupted


def _one_row(layout: str, row: dict[str, Any]) -> Any:
    def make(_: World, folder: Path) -> list[str]:
        path = folder / "rows.jsonl"
        path.write_text(json.dumps(row) + "\n")
        return ["data", str(path), "--task", ROWS[layout][0], "--layout", layout]

    return make


MESSAGES: dict[str, Any] = {
    "no turns": [],
    "the assistant alone": TURNS[1:],
    "the user alone": TURNS[:1],
    "an unknown role": [{"role": "tool", "content": "x"}, *TURNS[1:]],
    "a role that is a number": [{"role": 3, "content": "x"}, *TURNS[1:]],
    "a role of another case": [{"role": "USER ", "content": "x"}, *TURNS[1:]],
    "no role": [{"content": "x"}, *TURNS[1:]],
    "no content": [{"role": "user"}, *TURNS[1:]],
    "content in parts that are no text": [{"role": "user", "content": [{"type": "image"}]}, *TURNS[1:]],
    "content that is null": [{"role": "user", "content": None}, *TURNS[1:]],
    "a turn that is text": ["Hello", *TURNS[1:]],
    "a turn that is a list": [["user", "Hello"], *TURNS[1:]],
    "a blank question": [{"role": "user", "content": "  "}, *TURNS[1:]],
    "the assistant first": [TURNS[1], TURNS[1]],
    "a blank answer": [TURNS[0], {"role": "assistant", "content": " "}],
    "a system turn alone": [{"role": "system", "content": "x"}, *TURNS[1:]],
    "half a surrogate pair": [{"role": "user", "content": "\udfff"}, *TURNS[1:]],
}
MORE: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("helpsteer3", "a score that is text", {"overall_preference": "much"}),
    ("helpsteer3", "an infinite score", {"overall_preference": float("inf")}),
    ("helpsteer3", "a score that is NaN", {"overall_preference": float("nan")}),
    ("helpsteer3", "equal answers", {"response2": "a "}),
    ("prompt_chosen_rejected", "a strength below zero", {"preference_strength": -1}),
    ("prompt_chosen_rejected", "a strength beyond single precision", {"preference_strength": 1e200}),
    ("prompt_chosen_rejected", "a strength that is text", {"preference_strength": "strong"}),
    ("chosen_rejected", "other prompts", {"rejected": "\n\nHuman: other\n\nAssistant: b"}),
    ("chosen_rejected", "no turns", {"chosen": "just text"}),
    ("chosen_rejected", "a turn within an answer", {"chosen": "\n\nHuman: q\n\nAssistant: a\n\nHuman: z"}),
    ("a_b_label", "a label of neither side", {"label": "C"}),
    ("a_b_label", "a label beyond 1", {"label": 7}),
    ("a_b_label", "a label that is a list", {"label": ["A"]}),
    ("ranking", "more ranks than answers", {"ranking": [1, 2, 3]}),
    ("ranking", "ranks that are text", {"ranking": ["first", "second"]}),
    ("ranking", "one answer", {"responses": ["a"], "ranking": [1]}),
    ("ranking", "answers that are numbers", {"responses": [1, 2]}),
    ("tokenised_pairs", "a token below zero", {"input_ids_chosen": [-1, 2]}),
    ("tokenised_pairs", "tokens with fractions", {"input_ids_chosen": [1.5]}),
    ("tokenised_pairs", "a mask of another length", {"attention_mask_chosen": [1]}),
    ("tokenised_pairs", "a mask of twos", {"attention_mask_chosen": [2, 2]}),
    ("tokenised_pairs", "no tokens", {"input_ids_chosen": []}),
    ("tokenised_pairs", "equal sides", {"input_ids_rejected": [5, 6]}),
    ("instances", "no instance", {"instances": []}),
    ("instances", "an instance that is text", {"instances": ["a"]}),
    ("instances", "an instance without output", {"instances": [{"input": "x"}]}),
    ("turns", "no turn", {"turns": []}),
    ("turns", "a turn that is a number", {"turns": [3]}),
    ("text", "no newline", {"text": "one line"}),
    ("text", "nothing before the newline", {"text": "\nanswer"}),
)


def cases() -> list[Case]:
    found = []
    for layout in ROWS:
        for name, row in rows(layout):
            found.append(_case(layout, name, row))
    for name, turns in MESSAGES.items():
        found.append(_case("messages", name, {"messages": turns}))
        found.append(_case("messages", f"conversations, {name}", {"conversations": turns}))
    for layout, name, change in MORE:
        found.append(_case(layout, name, ROWS[layout][1] | change))
    return found


def _case(layout: str, name: str, row: dict[str, Any]) -> Case:
    if layout == "a_b_label" and row.get("label") not in (
        None,
        "A",
    ):  # no row of the file has a label that is one
        refused = ("rows.jsonl: the labels of label cannot be read", "(1)")
        return Case(f"row, {layout}, {name}", _one_row(layout, row), code=2, shown=refused)
    shown = ("rows.jsonl:1", "1 row, 0 kept, 1 dropped")
    return Case(f"row, {layout}, {name}", _one_row(layout, row), code=0, shown=shown)
