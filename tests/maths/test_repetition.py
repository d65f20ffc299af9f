from collections import Counter
from difflib import SequenceMatcher

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harken.maths.repetition import longest_common_run, most_frequent_ngram_count, repeated_ngram_fraction


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0.0),
        ("one two three", 0.0),
        ("one two three four", 0.0),
        ("a a a a a", 0.5),  # two 4-grams, one kind
        ("to be or not to be or not", 0.2),  # five 4-grams; the last repeats the first
        ("x x x x x x x x x x x x x", 0.9),  # ten, one kind
    ],
)
def test_word_fourgrams_by_hand(text, expected):
    """S0-51, S0-52."""
    assert repeated_ngram_fraction(text.split()) == pytest.approx(expected)


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(1, 5))
def test_it_is_the_share_of_ngrams_seen_before(items, n):
    seen, repeats, total = Counter(), 0, 0
    for end in range(n, len(items) + 1):
        gram = str(items[end - n : end])
        total += 1
        repeats += seen[gram] > 0
        seen[gram] += 1
    assert repeated_ngram_fraction(items, n) == pytest.approx(repeats / total if total else 0.0)


@given(st.lists(st.integers(), unique=True, max_size=30))
def test_items_that_all_differ_repeat_nothing(items):
    assert repeated_ngram_fraction(items) == 0.0


@given(st.text("ab ", max_size=40), st.integers(1, 6))
def test_characters_of_a_string_are_counted_like_those_of_a_list(text, n):
    assert repeated_ngram_fraction(text, n) == repeated_ngram_fraction(list(text), n)
    assert most_frequent_ngram_count(text, n) == most_frequent_ngram_count(list(text), n)


@given(st.lists(st.integers(0, 2), max_size=25), st.integers(1, 4))
def test_the_most_frequent_ngram_is_counted_by_its_definition(items, n):
    grams = [items[i : i + n] for i in range(len(items) - n + 1)]
    assert most_frequent_ngram_count(items, n) == max((grams.count(gram) for gram in grams), default=0)


some_words = st.lists(st.sampled_from(["a", "b", "ab", "ba", "c"]), max_size=14)


@given(some_words, some_words)
def test_longest_common_run_is_that_of_the_standard_library(left, right):
    """Words that are pieces of one another must not be mistaken for a run."""
    matcher = SequenceMatcher(None, left, right, autojunk=False)
    assert (
        longest_common_run(left, right)
        == matcher.find_longest_match().size
        == longest_common_run(right, left)
    )


@pytest.mark.parametrize(
    ("left", "right", "run"),
    [
        ("a b c", "a b c", 3),
        ("ab c", "a bc", 0),
        ("x a b c y", "z a b c", 3),
        ("", "a", 0),
        ("a a a", "a a", 2),
    ],
)
def test_common_runs_by_hand(left, right, run):
    assert longest_common_run(left.split(), right.split()) == run
