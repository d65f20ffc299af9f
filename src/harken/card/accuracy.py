"""Compute accuracy overall and in slices: domain, language, strength, length gap, source policy, rater, position."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from harken.card.scored import ScoredPairs, Section, name_of
from harken.data.parse import Pair
from harken.records import Preference

MAX_SLICES = 24
"""Maximum number of values listed per column; further ones are pooled as "others"."""


def accuracy_slices(scored: ScoredPairs) -> dict[str, dict[str, Section]]:
    """Compute accuracy in every slice that has at least two values.

    Source policies: by the pair of models that wrote the two sides, in alphabetical order.
    """
    columns = {name: by_name(scored, names) for name, names in _columns(scored).items()}
    return {name: slices for name, slices in columns.items() if slices}


def slice_names(scored: ScoredPairs) -> dict[str, list[str]]:
    """Return the slice of every pair by column, with the names of `accuracy_slices`."""
    return {column: _listed(names)[0] for column, names in _columns(scored).items()}


def _columns(scored: ScoredPairs) -> dict[str, Sequence[str]]:
    """Return the names of all pairs in every column that has at least two."""
    columns: dict[str, Sequence[str]] = {
        name: [read(pair) for pair in scored.pairs] for name, read in _COLUMNS.items()
    }
    columns["length_gap"] = length_gap_quintiles(scored)
    return {name: names for name, names in columns.items() if len(set(names)) > 1}


def by_name(scored: ScoredPairs, names: Sequence[str]) -> dict[str, Section]:
    """Compute the accuracy of the pairs of each name, the largest first; "" is listed as "none"."""
    labels, order = _listed(names)
    array = np.array(labels, dtype=object)
    sections = {name: scored.select(array == name).accuracy() for name in order}
    return {name: value for name, value in sections.items() if value is not None}


def _listed(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the label of each name, and the labels, the most frequent first."""
    counts = Counter(names)
    frequent = [name for name, _ in counts.most_common(MAX_SLICES)]
    order = [*frequent, *(["others"] if len(counts) > MAX_SLICES else [])]
    return [(name if name in frequent else "others") or "none" for name in names], [
        n or "none" for n in order
    ]


def length_gap_quintiles(scored: ScoredPairs) -> list[str]:
    """Name the quintile of each decided pair by length(preferred) − length(other), from shortest to longest.

    Pairs without a preferred side are named "tie".
    """
    gaps = scored.preferred_longer
    if not scored.decided.any():
        return ["tie"] * len(scored)
    edges = np.quantile(gaps[scored.decided], [0.2, 0.4, 0.6, 0.8], method="inverted_cdf")
    index = np.searchsorted(np.unique(edges), gaps)
    names = {}
    for quintile in np.unique(index[scored.decided]):
        quintile_gaps = gaps[(index == quintile) & scored.decided]
        names[int(quintile)] = f"{quintile_gaps.min():+d} to {quintile_gaps.max():+d}"
    return [names[int(i)] if decided else "tie" for i, decided in zip(index, scored.decided, strict=True)]


def length_accuracy(scored: ScoredPairs) -> Section:
    """Compute the accuracy where the longer and where the shorter response is preferred, and equally long ones.

    A reward model that uses the length alone is right on all pairs of one kind and wrong on all of the other.
    `longer_wins`: the share of pairs in which the longer response has the higher reward.
    """
    gaps = scored.preferred_longer
    unequal = scored.lengths[:, 0] != scored.lengths[:, 1]
    toward_longer = np.sign(scored.gap) == np.sign(scored.lengths[:, 0] - scored.lengths[:, 1])
    return {
        "longer_preferred": scored.select(gaps > 0).accuracy(),
        "shorter_preferred": scored.select(gaps < 0).accuracy(),
        "longer_wins": scored.select(unequal).accuracy(toward_longer[unequal]),
        "correlation": _correlation(scored),
    }


def _correlation(scored: ScoredPairs) -> float | None:
    """Correlate reward gaps and length gaps without centring, because the order of the sides is arbitrary."""
    length = (scored.lengths[:, 0] - scored.lengths[:, 1]).astype(np.float64)
    norm = float(np.linalg.norm(length) * np.linalg.norm(scored.gap))
    return float(length @ scored.gap) / norm if norm else None


def _domain(pair: Pair) -> str:
    return pair.prompt.domain if isinstance(pair, Preference) else pair.domain


def _strength(pair: Pair) -> str:
    return f"{pair.strength:g}"


def _writers(pair: Preference) -> str:
    return " / ".join(sorted(set(pair.written_by)))


def _position(pair: Preference) -> str:
    return {True: "first preferred", False: "second preferred", None: ""}[pair.chosen_first]


_COLUMNS: dict[str, Callable[[Pair], str]] = {
    "domain": _domain,
    "language": name_of(lambda pair: pair.prompt.language),
    "strength": _strength,
    "source_policy": name_of(_writers),
    "rater": name_of(lambda pair: pair.rater),
    "position": name_of(_position),
}
