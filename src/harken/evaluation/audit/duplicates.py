"""Find near-duplicate responses of one policy to different prompts (template collapse)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from math import ceil
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

K = TypeVar("K", bound=Hashable)
SHINGLE_WORDS = 5
"""Words of a shingle. Source: Broder 1997, "On the resemblance and containment of documents"."""


def number_shingles(texts: Sequence[Sequence[str]]) -> list[NDArray[np.int64]]:
    """Number the different word 5-grams of all texts; return the sorted numbers of each text's.

    Numbers grow with the number of texts' occurrences: rare shingles come first. Two shingles have one number only when
    they are equal. Method: name pairs of names. Source: Karp, Miller and Rosenberg 1972, STOC, p. 125.
    """
    vocabulary: dict[str, int] = {}
    names = np.array(
        [vocabulary.setdefault(word, len(vocabulary)) for text in texts for word in text], dtype=np.int64
    )
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    text_of = np.repeat(np.arange(len(texts)), lengths)
    pairs = _name(names[:-1], names[1:])
    fours = _name(pairs[:-2], pairs[2:])
    fives = _name(fours[:-1], names[4:]) if len(names) > 4 else names[:0]
    within_text = text_of[: len(fives)] == text_of[len(names) - len(fives) :]
    occurrences = np.unique(np.stack([text_of[: len(fives)][within_text], fives[within_text]]), axis=1)
    frequency = np.bincount(occurrences[1], minlength=len(names) + 1)
    rank = np.empty(len(frequency), dtype=np.int64)
    rank[np.argsort(frequency, kind="stable")] = np.arange(len(frequency))
    numbered = np.split(rank[occurrences[1]], np.searchsorted(occurrences[0], np.arange(1, len(texts))))
    return [np.sort(numbers) for numbers in numbered][: len(texts)]


def jaccard(left: NDArray[Any], right: NDArray[Any]) -> float:
    """Compute |left ∩ right| ÷ |left ∪ right| of two arrays of unique numbers; 0 when both are empty."""
    shared = len(np.intersect1d(left, right, assume_unique=True))
    union = len(left) + len(right) - shared
    return shared / union if union else 0.0


def find_near_duplicates(
    texts: Mapping[K, Sequence[str]], groups: Mapping[K, Hashable], similarity: float = 0.8
) -> dict[K, K]:
    """Map each key that has a text of another group with Jaccard similarity >= `similarity` to one such key.

    Exact, unlike MinHash: two texts of this similarity share one of the rarest |x| - ceil(similarity |x|) + 1 shingles
    of each, so only these are indexed. Source: Bayardo, Ma and Srikant 2007, "Scaling up all pairs similarity search".
    """
    keys = list(texts)
    shingled = dict(zip(keys, number_shingles([texts[key] for key in keys]), strict=True))
    alone: defaultdict[int, list[K]] = defaultdict(list)
    paired: defaultdict[int, list[K]] = defaultdict(list)
    duplicates: dict[K, K] = {}

    def compare(key: K, other: K) -> None:
        left, right = shingled[key], shingled[other]
        shorter, longer = sorted((len(left), len(right)))
        if (
            groups[key] != groups[other]
            and shorter >= similarity * longer
            and jaccard(left, right) >= similarity
        ):
            duplicates.setdefault(key, other)
            duplicates.setdefault(other, key)

    for key in keys:
        shingles = shingled[key]
        prefix = (
            shingles[: len(shingles) - ceil(similarity * len(shingles)) + 1].tolist() if len(shingles) else []
        )
        # Compare with every text that has no duplicate yet, and with the others only until this text has one.
        for shingle in prefix:
            waiting, alone[shingle] = alone[shingle], []
            for other in waiting:
                if other not in duplicates:
                    compare(key, other)
                (paired if other in duplicates else alone)[shingle].append(other)
        for shingle in prefix:
            for other in paired[shingle]:
                if key in duplicates:
                    break
                compare(key, other)
        for shingle in prefix:
            (paired if key in duplicates else alone)[shingle].append(key)
    return duplicates


def _name(left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number the different pairs (left[i], right[i])."""
    if not len(left):
        return left
    pairs = left * (int(right.max()) + 1) + right
    numbers: NDArray[np.int64] = np.unique(pairs, return_inverse=True)[1].astype(np.int64)
    return numbers
