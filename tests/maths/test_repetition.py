from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harken.maths.repetition import repeated_ngram_fraction


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
