"""The reward model's card and the audit as sections of the page."""

from __future__ import annotations

from typing import Any

from harken.explorer.text_sections import audit_section, card_section, text_sections

CARD = """# Report card of a reward model

It ranks 71.0 % right. Optimise against it with care.

* **prefers_longer**: prefers longer responses. Fix: train on pairs of like length.
* Warning: few pairs. Fix: collect more.

## Accuracy

| pairs | accuracy |
|---|---|
| all | 71.0 % |
| a \\| b | 60.0 % |
"""

AUDIT: dict[str, Any] = {
    "description": ["ours is not shown to beat base."],
    "rates": [
        {"policy": "base", "kind": "loop", "count": 0, "n": 50, "low": 0.0, "high": 0.07, "mcnemar_p": None},
        {
            "policy": "ours",
            "kind": "loop",
            "count": 5,
            "n": 50,
            "low": 0.04,
            "high": 0.21,
            "mcnemar_p": 0.0625,
        },
        {"policy": "base", "kind": "empty", "count": 0, "n": 50, "low": 0.0, "high": 0.07, "mcnemar_p": None},
        {"policy": "ours", "kind": "empty", "count": 0, "n": 50, "low": 0.0, "high": 0.07, "mcnemar_p": 1.0},
    ],
}


def test_a_card_keeps_its_words_and_tables() -> None:
    found = card_section(CARD)
    assert [block["kind"] for block in found["blocks"]] == ["text", "item", "item", "heading", "table"]
    assert found["blocks"][0]["text"] == "It ranks 71.0 % right. Optimise against it with care."
    assert found["blocks"][1]["text"].startswith("prefers_longer: prefers longer responses. Fix:")
    assert found["blocks"][4] == {
        "kind": "table",
        "heads": ["pairs", "accuracy"],
        "rows": [["all", "71.0 %"], ["a | b", "60.0 %"]],
    }


def test_the_audit_shows_the_kinds_that_occur_with_interval_and_test() -> None:
    figures, words = audit_section(AUDIT)["blocks"]
    assert words["items"] == ["ours is not shown to beat base."]
    assert figures["heads"] == ["responses with", "base", "ours"] and figures["formats"] == ["share", "share"]
    assert figures["figures"] == [
        {
            "name": "loop",
            "cells": [
                {"value": 0.0, "low": 0.0, "high": 0.07, "note": "0 of 50"},
                {
                    "value": 0.1,
                    "low": 0.04,
                    "high": 0.21,
                    "note": "5 of 50, p = 0.062",
                    "filter": {"policy": "ours", "flag": "loop"},
                },
            ],
        }
    ]
    quiet = audit_section(AUDIT | {"rates": [rate | {"count": 0} for rate in AUDIT["rates"]]})
    assert [block["kind"] for block in quiet["blocks"]] == ["text"]


def test_sentences_of_the_audit_use_the_page_s_names() -> None:
    found = AUDIT | {
        "description": ["ours has more cap_hit than base: 19 of 96 (19.79%); manual_review (37)."],
        "meanings": {"cap_hit": "", "manual_review": "", "loop": ""},
    }
    (_, words) = audit_section(found)["blocks"]
    assert words["items"] == ["ours has more truncated than base: 19 of 96 (19.79 %); manual review (37)."]


def test_only_sections_that_exist_are_on_the_page() -> None:
    assert text_sections({}, None) == []
    assert [one["id"] for one in text_sections({"reward": CARD}, AUDIT)] == ["reward-model", "audit"]
    two = text_sections({"one": CARD, "other": CARD}, None)
    assert [one["id"] for one in two] == ["reward-model-one", "reward-model-other"]
    assert [one["title"] for one in two] == ["Reward model: one", "Reward model: other"]
