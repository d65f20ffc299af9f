"""Variety of responses: by hand, by counting slowly, and in its limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harken.maths.diversity import distinct_n, unique_items

TEXTS = st.lists(st.lists(st.integers(0, 3), max_size=8), max_size=6)


def test_distinct_by_hand() -> None:
    """S2-53, S2-56: "a b a b" has bigrams ab, ba, ab; "a b" has ab: 2 kinds of 4."""
    assert distinct_n(["abab", "ab"], 2) == 2 / 4
    assert distinct_n(["abab", "ab"], 1) == 2 / 6
    assert distinct_n([(5, 6, 7)], 2) == 1.0


def test_no_ngram_spans_two_responses() -> None:
    assert distinct_n(["a", "b"], 2) == 0.0
    assert distinct_n(["ab", "ba"], 2) == 1.0


def test_empty_text_is_not_diverse() -> None:
    assert distinct_n([], 1) == 0.0
    assert distinct_n(["", ""], 1) == 0.0
    assert unique_items([]) == 0
    assert unique_items(["", ""]) == 0


@given(TEXTS, st.integers(1, 3))
def test_distinct_counted_slowly(texts: list[list[int]], n: int) -> None:
    seen: list[list[int]] = []
    total = 0
    for text in texts:
        for start in range(len(text)):
            gram = text[start : start + n]
            if len(gram) == n:
                total += 1
                if gram not in seen:
                    seen.append(gram)
    assert distinct_n(texts, n) == (len(seen) / total if total else 0.0)


@given(TEXTS)
def test_the_same_response_again_and_again(texts: list[list[int]]) -> None:
    """Saying everything twice halves the share and adds no token."""
    assert distinct_n(texts * 2, 2) == pytest.approx(distinct_n(texts, 2) / 2)
    assert unique_items(texts * 2) == unique_items(texts) == len({x for text in texts for x in text})
