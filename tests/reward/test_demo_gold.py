"""The demo's gold judge: worked examples, orders any reader would share, limits, tricks that must not pay."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harken.records import Message, Prompt
from harken.reward.demo_gold import GOLD_VERSION, gold_score, gold_score_parts, keyword_hits, normalised_words

FACT = Prompt(
    "f", (Message("user", "What is the capital of Italy?"),), "facts", "en", details={"keywords": ["rome"]}
)
ADVICE = Prompt(
    "a",
    (Message("user", "How do I keep bread fresh for longer?"),),
    "advice",
    "en",
    details={"keywords": ["bag", "freeze", "container"]},
)
GOOD = "Put the loaf in a paper bag, or slice it and freeze what you will not eat today."


def score(prompt: Prompt, text: str, stop: str = "end_of_turn") -> float:
    return gold_score(prompt, text, stop)  # type: ignore[arg-type]


# -- worked by hand from the formula in the docstring ---------------------------------------------


def test_a_good_short_response_scores_one() -> None:
    """topic 1 (bag, freeze), 17 words, ended on ".", nothing repeated or quoted, plenty of function words."""
    assert score(ADVICE, GOOD) == pytest.approx(1.0)
    assert score(FACT, "The capital of Italy is Rome.") == pytest.approx(1.0)


def test_a_truncated_response_with_one_keyword_by_hand() -> None:
    """40 words, no 4-gram twice, one of two keywords, cut: (0.1 + 0.9 × 0.7) × 32/40 × 0.4."""
    text = "the bag is " + " ".join(f"word{i} of" for i in range(18)) + " it"
    assert len(text.split()) == 40
    assert score(ADVICE, text, "length") == pytest.approx((0.1 + 0.9 * 0.7) * (32 / 40) * 0.4)


def test_a_loop_without_a_full_stop_by_hand() -> None:
    """12 words "i like bread" × 4: 9 four-grams, 3 different, names the topic; 1 sentence; own words.

    (0.1 + 0.9 × 0.3) × 1 × 0.7 × (1 - 6/9) × 1 × 1.
    """
    text = " ".join(["I like bread"] * 4)
    assert score(ADVICE, text) == pytest.approx((0.1 + 0.9 * 0.3) * 0.7 * (3 / 9))


def test_a_quoted_prompt_by_hand() -> None:
    """The prompt has 8 words, 5.6 of them free; a run of 7 leaves (8 - 7) / (8 - 5.6)."""
    quoted = "Do I keep bread fresh for longer in a bag? Or rather freeze it?"
    assert gold_score_parts(ADVICE, quoted, "end_of_turn")["own"] == pytest.approx(1 / 2.4)


# -- orders ---------------------------------------------------------------------------------------


def test_better_responses_score_higher() -> None:
    ranked = [
        (GOOD, "end_of_turn"),
        ("Keep it in a bag on the shelf and do not cut it early.", "end_of_turn"),
        ("Buy your bread in the morning and eat it with butter.", "end_of_turn"),
        ("It is a good question and there are many ways to do it.", "end_of_turn"),
        ("Bread is good. " * 12, "length"),
        ("", "end_of_turn"),
    ]
    scores = [score(ADVICE, text, stop) for text, stop in ranked]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == len(scores)


@pytest.mark.parametrize(
    ("trick", "stop", "most"),
    [
        ("", "end_of_turn", 0.0),
        ("   \n ", "end_of_turn", 0.0),
        ("?!...", "end_of_turn", 0.0),
        ("Yes.", "end_of_turn", 0.02),
        ("Bag.", "end_of_turn", 0.17),
        ("bag freeze container bread store box wrap.", "end_of_turn", 0.0),
        ("It is a pleasure to help you and I am here for you.", "end_of_turn", 0.1),
        ("How do I keep bread fresh for longer?", "end_of_turn", 0.0),
        ("Put it in a bag and freeze it. " * 8, "end_of_turn", 0.13),
        ("Put it in a bag and freeze it. " * 8, "length", 0.06),
        ("a bag " * 60, "length", 0.02),
    ],
)
def test_one_trick_does_not_pay(trick: str, stop: str, most: float) -> None:
    assert score(ADVICE, trick, stop) <= most


def test_a_wrong_fact_scores_below_half() -> None:
    assert score(FACT, "The capital of Italy is Milan.") == pytest.approx(0.37)


# -- limits ---------------------------------------------------------------------------------------


@given(st.text(max_size=300), st.sampled_from(["end_of_turn", "length"]), st.sampled_from([FACT, ADVICE]))
def test_every_part_and_the_score_are_in_range(text: str, stop: str, prompt: Prompt) -> None:
    parts = gold_score_parts(prompt, text, stop)  # type: ignore[arg-type]
    assert list(parts) == ["topic", "length", "ending", "fresh", "own", "prose"]
    assert all(0.0 <= value <= 1.0 for value in parts.values())
    product = 0.1 + 0.9 * parts["topic"]
    for name in ("length", "ending", "fresh", "own", "prose"):
        product *= parts[name]
    assert score(prompt, text, stop) == pytest.approx(product)
    assert score(prompt, text, stop) <= score(prompt, text, "end_of_turn")


def test_length_rises_stays_and_falls() -> None:
    parts = [gold_score_parts(ADVICE, " ".join(["word"] * n), "length")["length"] for n in range(129)]
    assert parts[0] == 0.0
    assert parts[3] == pytest.approx(0.5)
    assert parts[6:33] == [1.0] * 27
    assert all(left >= right for left, right in pairwise(parts[6:]))
    assert parts[64] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("Well done.", "end_of_turn", 1.0),
        ('He said "well done!" ', "end_of_turn", 1.0),
        ("**Well done.**", "end_of_turn", 1.0),
        ("Well done", "end_of_turn", 0.7),
        ("Well done:", "end_of_turn", 0.7),
        ("Well done.", "length", 0.4),
    ],
)
def test_ending(text: str, stop: str, expected: float) -> None:
    assert gold_score_parts(FACT, text, stop)["ending"] == expected  # type: ignore[arg-type]


def test_repeated_sentences_count_even_when_they_are_short() -> None:
    assert gold_score_parts(FACT, "It is Rome. It is Rome.", "end_of_turn")["fresh"] == pytest.approx(0.5)
    assert gold_score_parts(FACT, "It is Rome. It was Turin.", "end_of_turn")["fresh"] == 1.0


def test_keywords_match_words_and_their_common_endings_only() -> None:
    response = normalised_words(
        "Freezing BAGS, the baker's stories; eighteen were running and a co-worker’s H2O"
    )
    assert keyword_hits(["freeze"], response) == 1
    assert keyword_hits(["bag", "story", "run", "h2o"], response) == 4
    assert keyword_hits(["eight", "stor", "ice", "e"], response) == 0
    assert keyword_hits(["!"], response) == 0


def test_two_keywords_are_wanted_but_one_fact_is_enough() -> None:
    one = "Use a bag for it, and do not let it get wet."
    assert gold_score_parts(ADVICE, one, "end_of_turn")["topic"] == 0.7
    assert gold_score_parts(ADVICE, "Bags, bags and a bag.", "end_of_turn")["topic"] == 0.7
    assert gold_score_parts(FACT, "It is Rome.", "end_of_turn")["topic"] == 1.0


def test_a_prompt_without_keywords_is_judged_on_form_alone() -> None:
    """A user's own prompts have no keywords; the judge still gives a score."""
    plain = Prompt("p", (Message("user", "Say something nice."),))
    assert score(plain, "You look well today, and I am glad to see you.") == pytest.approx(1.0)


def test_the_version_names_the_formula() -> None:
    assert GOLD_VERSION == "demo judge v1"


def test_no_torch() -> None:
    """The judge runs where pages are made: without torch."""
    code = "import sys, harken.reward.demo_gold; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
