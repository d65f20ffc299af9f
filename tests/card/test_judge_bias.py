"""What the card says of the biases of the judge that labelled the pairs."""

from __future__ import annotations

import numpy as np

from harken.card.judge_bias import judge_bias_section, learnt_biases
from harken.card.scored import ScoredPairs
from harken.records import Message, Preference, Prompt

LIST = "\n- one\n- two"
FILLER = " and so on" * 12


def pairs(prefers: str, count: int = 120, longer_lists: float = 0.8) -> list[Preference]:
    """Pairs of a list and plain text; in most the list is longer. The judge prefers `list` or `longer`."""
    made = []
    for i in range(count):
        is_longer = i < longer_lists * count
        listed = f"number {i}{FILLER if is_longer else ''}{LIST}"
        plain = f"number {i}{'' if is_longer else FILLER + FILLER}"
        chosen, rejected = (listed, plain) if prefers == "list" or is_longer else (plain, listed)
        made.append(
            Preference(Prompt(f"p{i}", (Message("user", f"{i}"),)), chosen, rejected, rater="judge planted")
        )
    return made


def scored(made: list[Preference], right: float = 0.9) -> ScoredPairs:
    gaps = np.where(np.arange(len(made)) % 10 < 10 * right, 1.0, -1.0)
    return ScoredPairs(made, np.stack([gaps, np.zeros(len(made))], axis=1))


def test_shares_are_those_of_the_definition() -> None:
    section = judge_bias_section(scored(pairs("list")))
    assert section is not None and section["pairs"] == 120 and section["judges"] == ["planted"]
    lists, longer = section["features"]["more_list_items"], section["features"]["longer"]
    assert lists["pairs"] == 120 and lists["judge"]["share"] == 1.0
    assert abs(lists["model"]["share"] - 0.9) < 0.01
    assert lists["where_shorter"]["pairs"] == 24 and lists["where_shorter"]["judge"]["share"] == 1.0
    assert abs(longer["judge"]["share"] - 0.8) < 0.01 and "where_shorter" not in longer


def test_the_planted_bias_is_named_first_and_what_only_grows_with_length_is_not() -> None:
    names = [name for name, _ in learnt_biases(judge_bias_section(scored(pairs("list", longer_lists=0.9))))]
    assert names == ["more_list_items", "longer"]
    section = judge_bias_section(scored(pairs("longer", longer_lists=0.9)))
    assert section is not None and section["features"]["more_list_items"]["judge"]["low"] > 0.75
    assert section["features"]["more_list_items"]["where_shorter"]["judge"]["share"] == 0.0
    assert [name for name, _ in learnt_biases(section)] == ["longer"]


def test_a_bias_that_the_model_did_not_learn_and_labels_of_people_are_not_named() -> None:
    section = judge_bias_section(scored(pairs("list"), right=0.5))
    assert section is not None and learnt_biases(section) == []
    people = [Preference(pair.prompt, pair.chosen, pair.rejected, rater="anna") for pair in pairs("list", 20)]
    assert judge_bias_section(scored(people)) is None
