"""What `harken data` says of the variety of preferences, counted by hand (S2-49)."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harken.data import diversity
from harken.records import Message, Preference, Prompt, TokenPair


def pair(
    prompt: str = "q", chosen: str = "yes", rejected: str = "no", label: float = 1.0, **keys: object
) -> Preference:
    domain = str(keys.pop("domain", ""))
    asked = Prompt("id", (Message("user", prompt),), domain=domain)
    return Preference(asked, chosen, rejected, label, **keys)  # type: ignore[arg-type]


def test_prompts_that_differ_in_case_and_punctuation_alone() -> None:
    """S2-49: five pairs, four prompts, of which three say the same words."""
    pairs = [pair(p) for p in ("Why, though?", "why  though", "WHY THOUGH!", "Why not?", "Why not?")]
    assert diversity.describe_prompts(pairs) == (
        "prompts: 4 distinct in 5 pairs; 2 of them repeat another except for case, spaces and punctuation; "
        "2 different beginnings; median 11 characters, longest 12"
    )


def test_a_system_turn_is_part_of_the_prompt() -> None:
    asked = [
        Prompt("id", (Message("system", system), Message("user", "q"))) for system in ("Be kind", "Be brief")
    ]
    assert diversity.describe_prompts([Preference(p, "a", "b") for p in asked]).startswith(
        "prompts: 2 distinct"
    )


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Straße", "STRASSE", True),
        ("ｆｕｌｌ　ｗｉｄｔｈ", "full width", True),
        ("co-op", "co op", True),
        ("की", "का", False),
        ("résumé", "resume", False),
        ("2+2", "2×2", False),
        ("Number 1?", "Number 2?", False),
    ],
)
def test_words_decide_whether_texts_are_the_same(one: str, other: str, same: bool) -> None:
    assert (diversity.normalise(one) == diversity.normalise(other)) is same


@given(st.text(string.printable))
def test_only_letters_digits_and_signs_are_left(text: str) -> None:
    left = diversity.normalise(text)
    assert left == diversity.normalise(text.swapcase()) == " ".join(left.split())
    assert not set(left) & set(".,;:!?'\"()[]{}-_/@#%&*\\") and left == left.lower()


def test_how_often_the_longer_response_wins() -> None:
    """S2-48, S2-49: of ten decided pairs the longer wins eight; a tie and an equal length say nothing."""
    pairs = [
        *[pair(chosen="long answer", rejected="short")] * 7,
        pair(chosen="short", rejected="long answer", label=0.2),
        *[pair(chosen="short", rejected="long answer")] * 2,
        pair(chosen="long answer", rejected="short", label=0.5),
        pair(chosen="alike", rejected="ALIKE"),
    ]
    # Wilson's interval of 8 in 10, from a table; the median ratio is that of seven pairs in twelve and the tie.
    assert diversity.describe_lengths(pairs) == (
        "length: chosen ÷ rejected 2.20 (median); the longer response wins 80.0% [49.0%, 94.3%] of 10 pairs"
    )


def test_accuracy_of_preferring_the_longer_response() -> None:
    longer = diversity.describe_lengths([pair(chosen="xxxx", rejected="x")] * 30)
    shorter = diversity.describe_lengths([pair(chosen="x", rejected="xxxx")] * 27 + [pair(chosen="xx")] * 3)
    assert longer.endswith("100.0% [88.6%, 100.0%] of 30 pairs, so length alone predicts 100.0%")
    assert "wins 0.0%" in shorter and shorter.endswith("of 27 pairs, so length alone predicts 100.0%")
    assert diversity.describe_lengths([pair(label=0.5)]).endswith(
        "no pair shows whether the longer response wins"
    )


def test_domains_are_named_by_size() -> None:
    assert diversity.format_shares(["a", "b", "a", ""]) == "a 50%, b 25%, none 25%"
    assert diversity.format_shares(["", ""]) == "none named"
    assert diversity.format_shares(str(i) for i in range(9)).endswith(" and 3 more")


def test_raters() -> None:
    assert diversity.describe_raters([pair(), pair()]) == "the rows name no raters"
    rated = [pair(raters=(1.0, 1.0, -1.0)), pair(raters=(1.0, 2.0, 1.0)), pair(raters=(1.0,)), pair()]
    assert diversity.describe_raters(rated) == "raters: 2 per pair (median), 50% of pairs by one or unknown"


def test_pre_tokenised_pairs_have_lengths_and_domains_alone() -> None:
    rows = [TokenPair("a", (1, 2, 3, 4), (1, 2), domain="maths"), TokenPair("b", (1, 2), (1, 2, 3, 4))]
    domains, length = diversity.summary_lines(rows)
    assert domains == "domains: maths 50%, none 50%"
    assert "the longer response wins 50.0%" in length


def test_no_pairs_no_lines() -> None:
    assert diversity.summary_lines([]) == []
