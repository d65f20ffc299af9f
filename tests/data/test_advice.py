"""Advice on pairs and epochs, and on samples of the policy."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harken.data.advice import advise_pairs, describe_positions, describe_writers, warn_off_policy
from harken.records import Message, Preference, Prompt, TokenPair


def pairs(*names: tuple[str, str]) -> list[Preference]:
    prompt = Prompt("p", (Message("user", "q"),))
    return [Preference(prompt, "a", "b", written_by=both) for both in names]


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (9_999, "fewer than the usual"),
        (10_000, "within or above the usual 10,000 to 50,000; 1 to 3 epochs"),
        (99_999, "within or above"),
        (100_000, "as many as commercial products use (100,000 to 500,000); 1 epoch"),
    ],
)
def test_pairs_and_epochs(count: int, words: str):
    """S2-08, S2-21."""
    assert advise_pairs(count).startswith(f"advice: {count:,} pairs") and words in advise_pairs(count)


@pytest.mark.parametrize(
    ("writers", "policy", "warned"),
    [
        (("gpt", "llama"), "outputs/01_sft/final", True),
        (("gpt", "sft"), "outputs/01_sft/final", False),
        (("gpt", "01_sft"), "outputs/01_sft/final", False),
        (("gpt", "org/Model-1B"), "org/model-1b", False),
        (("gpt", "Model-1B"), "org/model-1b", False),
        (("gpt", "policy"), "x", False),
        (("", ""), "x", False),
        (("final", "outputs"), "outputs/01_sft/final", True),
    ],
)
def test_a_policy_without_samples(writers: tuple[str, str], policy: str, warned: bool):
    """S2-19."""
    found = warn_off_policy([*pairs(writers), TokenPair("t", (1,), (2,))], policy)
    assert (found is not None) == warned
    if found:
        assert f"({policy})" in found and "Fix: add pairs sampled from the policy" in found


def test_positions_are_those_of_rows_with_a_known_order():
    """S2-31."""
    rows = [
        replace(pair, chosen_first=first) for pair in pairs(("", "")) for first in (True, False, True, None)
    ]
    assert describe_positions(rows) == ("positions: the first response is preferred in 67% of 3 rows", None)
    assert describe_positions(rows[3:]) == ("", None)


def test_writers_are_shares_of_responses():
    assert describe_writers(pairs(("a", "b"), ("a", "a"))) == "written by: a 75%, b 25%"
    assert "do not say" in describe_writers(pairs(("", "")))
