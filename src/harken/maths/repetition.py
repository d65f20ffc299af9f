"""Measure repetition in a text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

REPETITIVE = 0.25
"""A response is repetitive strictly above this share of repeated word 4-grams."""


@dataclass(frozen=True, slots=True)
class TrailingRepetition:
    """Describe a repetition at the end of a text: `unit` repeated `times` times, `length` characters in all."""

    unit: str
    times: int
    length: int


def repeated_ngram_fraction(items: Sequence[Hashable], n: int = 4) -> float:
    """Compute the share of n-grams that occurred before: 1 - unique / all. 0 when `items` is shorter than n.

    `items` are words, characters or token ids. Called seq-rep-n by Welleck et al. 2019, arXiv:1908.04319.
    """
    grams = _ngrams(items, n)
    return 1.0 - len(set(grams)) / len(grams) if grams else 0.0


def most_frequent_ngram_count(items: Sequence[Hashable], n: int = 4) -> int:
    """Count the occurrences of the most frequent n-gram; 0 when `items` is shorter than n."""
    return max(Counter(_ngrams(items, n)).values(), default=0)


def find_trailing_repetition(text: str, times: int = 3, length: int = 30) -> TrailingRepetition | None:
    """Find the longest loop that the text ends in, of at least `times` repetitions and `length` characters.

    It finds what word 4-grams miss: one word or one character repeated. A loop may end inside its unit; the unit is
    then rotated to end where the text ends. Trailing whitespace is ignored. O(len(text)).
    Method: the failure function of Knuth, Morris and Pratt on the reversed text; a prefix of length L
    has the smallest period L - failure(L).
    """
    text = text.rstrip()
    # A loop of period p covers max(times p, length) characters, so its last (times - 1) length / times ones also occur
    # p characters earlier. Most texts end here.
    tail = max((times - 1) * length // times, 0)
    if tail and text.rfind(text[-tail:], 0, len(text) - 1) < 0:
        return None
    reverse = text[::-1]
    failure = [0] * (len(reverse) + 1)
    best = (0, 0)
    match = 0
    for i in range(1, len(reverse)):
        while match and reverse[i] != reverse[match]:
            match = failure[match]
        if reverse[i] == reverse[match]:
            match += 1
        failure[i + 1] = match
        period = i + 1 - match
        covered = (i + 1) // period * period
        if covered >= max(times * period, length) and covered > best[0]:
            best = (covered, period)
    covered, period = best
    return TrailingRepetition(reverse[:period][::-1], covered // period, covered) if covered else None


def longest_common_run(left: Sequence[str], right: Sequence[str]) -> int:
    """Count the items of the longest run of consecutive items that occurs in both sequences.

    The items are words without the character U+0000. The run that ends at an item of `right` is at most one longer
    than the longest before it, so one substring search for each item is enough.
    """
    vocabulary = set(left)
    separator = "\0"
    text = separator + "".join(word + separator for word in left)
    joined = separator + "".join(word + separator for word in right)
    starts = [0]
    for word in right:
        starts.append(starts[-1] + len(word) + 1)
    best = consecutive = 0
    for i, word in enumerate(right):
        consecutive = consecutive + 1 if word in vocabulary else 0
        if consecutive > best and joined[starts[i - best] : starts[i + 1] + 1] in text:
            best += 1
    return best


def _ngrams(items: Sequence[Hashable], n: int) -> Sequence[Hashable]:
    if isinstance(items, str):
        return [items[i : i + n] for i in range(len(items) - n + 1)]
    return list(zip(*(items[i:] for i in range(n)), strict=False))
