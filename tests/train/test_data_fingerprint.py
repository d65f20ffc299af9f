"""The fingerprint of a run's rows: what changes it and what does not."""

from __future__ import annotations

from dataclasses import field, make_dataclass, replace
from typing import Any

import pytest

from harken.config import RunConfig
from harken.config.base import DataConfig
from harken.records import Message, Prompt, TokenDemonstration, TokenPair
from harken.train.load_data import lineage

CONFIG = RunConfig.model_construct(data=DataConfig.model_construct(path="rows.jsonl"))
PROMPT = Prompt(
    "1", (Message("system", "Be brief."), Message("user", "Rain?")), "d", "en", details={"k": [1]}
)
PAIR = TokenPair("1", (1, 2), (1, 3), 1.0, 0.5, "d")
DEMONSTRATION = TokenDemonstration("1", (1, 2), (False, True))


def fingerprint(*groups: list[object]) -> str:
    return lineage(CONFIG, *groups)["fingerprint"]


def test_a_renamed_field_changes_no_fingerprint() -> None:
    """Records whose classes and fields have other names, nested ones too, hash as those of today."""
    said = make_dataclass("Said", ["speaker", "words", ("more", str, field(default=""))])
    asked = make_dataclass("Asked", ["key", "turns", "area", "tongue", "answer", "facts", "functions"])
    renamed = asked(
        "1", (said("system", "Be brief."), said("user", "Rain?")), "d", "en", None, {"k": [1]}, ""
    )
    assert fingerprint([renamed]) == fingerprint([PROMPT])
    tokens = make_dataclass("Tokens", ["key", "ids", "learned"])
    assert fingerprint([tokens("1", (1, 2), (False, True))]) == fingerprint([DEMONSTRATION])


@pytest.mark.parametrize(
    ("row", "change"),
    [
        (PROMPT, {"id": "2"}),
        (PROMPT, {"messages": PROMPT.messages[1:]}),
        (PROMPT, {"messages": (PROMPT.messages[0], Message("user", "Rain!"))}),
        (PROMPT, {"details": {"k": [2]}}),
        (PROMPT, {"domain": "en", "language": "d"}),
        (PAIR, {"chosen_tokens": (1, 3), "rejected_tokens": (1, 2)}),
        (PAIR, {"strength": 1.0}),
        (DEMONSTRATION, {"response_mask": (True, True)}),
    ],
)
def test_every_value_and_its_place_count(row: Any, change: dict[str, Any]) -> None:
    assert fingerprint([replace(row, **change)]) != fingerprint([row])


def test_the_order_and_the_groups_of_rows_count() -> None:
    other = replace(DEMONSTRATION, id="2")
    assert len({
        fingerprint([DEMONSTRATION, other]), fingerprint([other, DEMONSTRATION]), fingerprint([DEMONSTRATION], [other]),
        fingerprint([DEMONSTRATION]),
    }) == 4  # fmt: skip
    # Where the tokens of a prompt end is derived from both sides.
    assert fingerprint([replace(PAIR, prompt_length=1)]) == fingerprint([PAIR])
