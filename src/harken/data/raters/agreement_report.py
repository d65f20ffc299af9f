"""Compute what a file of labels says about its raters: agreement, ceiling, habits, drift. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

import numpy as np

from harken.data.raters.rated_rows import RatedRow, RatedRows, RaterVote
from harken.data.raters.reliability import rater_reliability
from harken.maths.statistics.agreement import (
    ALPHA_DRAWS,
    AlphaInterval,
    MeasurementLevel,
    alpha_interval,
    rater_ceiling,
)
from harken.maths.statistics.agreement_intervals import (
    cohen_interval,
    fleiss_interval,
    percent_agreement_interval,
)
from harken.maths.statistics.dawid_skene import RELIABILITY_DRAWS
from harken.maths.statistics.majority import majority_accuracy, rater_accuracy
from harken.maths.statistics.rater_habits import (
    adjust_p_values,
    departures,
    drift_between_halves,
    leaning,
    share,
    share_against_half,
)

MAX_PAIRS_OF_RATERS = 300
"""Pairs of raters, those with the most rows in common, of which kappa is computed."""
ALPHA_LEVELS: tuple[MeasurementLevel, ...] = ("nominal", "ordinal", "interval")
RatedVote = tuple[RatedRow, RaterVote]


def rater_report(rated: RatedRows, draws: int = ALPHA_DRAWS, seed: int = 0) -> dict[str, Any]:
    """Return all figures of a file as JSON.

    Of comparisons, percent agreement, kappas and nominal alpha compare sides (first, second, tie), and ordinal and
    interval alpha compare the scores; of words only the former exist. Raters without names have no kappas by pair, no
    habits and no drift: the place in a list is no person.
    """
    values = [[vote.value for vote in row.votes] for row in rated.rows]
    verdicts = [[rated.verdict(value) for value in row] for row in values]
    rows_with_two = [row for row in verdicts if len(row) >= 2]
    levels = ALPHA_LEVELS[:1] if rated.kind == "labels" else ALPHA_LEVELS
    equal_numbers = len({len(row) for row in rows_with_two}) == 1
    percent = percent_agreement_interval(rows_with_two, draws, seed) if rows_with_two else None
    return {
        "file": rated.path,
        "layout": rated.layout,
        "kind": rated.kind,
        "labels": rated.labels,
        "rows": len(rated.rows),
        "rows_with_two": len(rows_with_two),
        "votes": sum(map(len, values)),
        "dropped": dict(rated.dropped),
        "unread": list(rated.unread),
        "named": rated.named,
        "unanimous": share([len(set(row)) == 1 for row in rows_with_two]),
        "percent": _plain(percent),
        "alpha": {
            level: _plain(alpha_interval(verdicts if level == "nominal" else values, level, draws, seed))
            for level in levels
        },
        "fleiss_kappa": _plain(fleiss_interval(rows_with_two, draws, seed)) if equal_numbers else None,
        "cohen_kappa": _kappas(rated, draws, seed),
        "ceiling": _ceiling(rated, values),
        "majorities": _majorities(rated, verdicts),
        "dawid_skene": rater_reliability(rated, min(draws, RELIABILITY_DRAWS), seed),
        "raters": _habits(rated),
    }


def _plain(found: AlphaInterval | None) -> dict[str, Any] | None:
    return asdict(found) if found else None


def _kappas(rated: RatedRows, draws: int, seed: int) -> list[dict[str, Any]]:
    """Return Cohen's kappa of every two raters on the rows that both labelled; of many, those with most rows first."""
    votes = {
        rater: {row.id: rated.verdict(vote.value) for row, vote in votes}
        for rater, votes in _by_rater(rated).items()
    }
    place = {rater: number for number, rater in enumerate(rated.raters)}
    shared: Counter[tuple[str, str]] = Counter()
    for row in rated.rows if rated.named else ():
        shared.update(combinations(sorted((vote.rater for vote in row.votes), key=place.__getitem__), 2))
    pairs = sorted(shared, key=lambda pair: (place[pair[0]], place[pair[1]]))
    if len(pairs) > MAX_PAIRS_OF_RATERS:
        pairs = sorted(pairs, key=lambda pair: -shared[pair])[:MAX_PAIRS_OF_RATERS]
    kappas = []
    for a, b in pairs:
        items = sorted(votes[a].keys() & votes[b].keys())
        both = [votes[a][item] for item in items], [votes[b][item] for item in items]
        kappa = _plain(cohen_interval(*both, draws, seed))
        kappas.append({"raters": [a, b], "rows": len(items), "kappa": kappa})
    return kappas


def _ceiling(rated: RatedRows, values: Sequence[Sequence[float]]) -> dict[str, Any] | None:
    """Return how often a rater takes the side of the majority of the others, where votes take sides.

    Scores take sides if they lie on both sides of 0, words if there are two.
    """
    rows = [list(row) for row in values]
    if rated.kind == "labels":
        if len(rated.labels) != 2:
            return None
        rows = [[2 * value - 1 for value in row] for row in rows]
    elif rated.kind == "scores" and not any(v < 0 for row in rows for v in row):
        return None
    found = rater_ceiling(rows)
    return asdict(found) if found else None


def _majorities(rated: RatedRows, verdicts: Sequence[Sequence[float]]) -> dict[str, Any] | None:
    """Return how often one rater and majorities of three to seven would be right, from agreement where both decide."""
    if rated.kind != "comparisons":
        return None
    decided = [[side for side in row if side] for row in verdicts]
    found = percent_agreement_interval(decided, draws=1) if any(len(row) >= 2 for row in decided) else None
    accuracy = rater_accuracy(found.value) if found else None
    if found is None or accuracy is None:
        return None
    of = {str(n): majority_accuracy(accuracy, n) for n in (1, 3, 5, 7)}
    return {"agreement_without_ties": found.value, "right": of}


def _by_rater(rated: RatedRows) -> dict[str, list[RatedVote]]:
    """Return every rater's votes with their rows, in the order in which they were given."""
    found: dict[str, list[RatedVote]] = {rater: [] for rater in rated.raters}
    if rated.named:
        for row in rated.rows:
            for vote in row.votes:
                found[vote.rater].append((row, vote))
    return {rater: sorted(votes, key=lambda one: one[1].order) for rater, votes in found.items()}


def _habits(rated: RatedRows) -> list[dict[str, Any]]:
    """Return the habits of every rater; p-values of one habit are adjusted over the raters, those of drift over all."""
    found = [_habits_of(rated, rater, votes) for rater, votes in _by_rater(rated).items()]
    for name in ("first", "first_than_others", "longer", "longer_than_others", "higher_than_others"):
        adjust_p_values([one[name] for one in found if name in one])
    adjust_p_values([drift for one in found for drift in one["drift"].values()])
    return found


def _habits_of(rated: RatedRows, rater: str, votes: Sequence[RatedVote]) -> dict[str, Any]:
    """Return the habits of one rater. Drift is that of the rows on which the rater departs from the others: where all
    change together, the rows have changed and not the raters.
    """
    others = [_others(rated, row, rater) for row, _ in votes]
    agrees = [
        None if theirs is None else rated.verdict(vote.value) == theirs
        for (_, vote), theirs in zip(votes, others, strict=True)
    ]
    gold = [
        None if row.gold is None else rated.verdict(vote.value) == rated.verdict(row.gold)
        for row, vote in votes
    ]
    found: dict[str, Any] = {
        "rater": rater,
        "votes": len(votes),
        "with_others": share(agrees),
        "gold": share(gold),
    }
    courses: dict[str, list[bool | None]] = {"with_others": agrees}
    if rated.kind == "comparisons":
        side = [_chose(vote.value) for _, vote in votes]
        side_of_others = [None if theirs is None else _chose(theirs) for theirs in others]
        longer = [_longer(one, row) for one, (row, _) in zip(side, votes, strict=True)]
        longer_of_others = [_longer(one, row) for one, (row, _) in zip(side_of_others, votes, strict=True)]
        found |= {
            "ties": share([vote.value == 0 for _, vote in votes]),
            "first": share_against_half(side),
            "first_than_others": leaning(side, side_of_others),
            "longer": share_against_half(longer),
            "longer_than_others": leaning(longer, longer_of_others),
        }
        ties = [vote.value == 0 for _, vote in votes]
        ties_of_others = [None if theirs is None else theirs == 0 for theirs in others]
        courses |= {
            "first": departures(side, side_of_others),
            "ties": departures(ties, ties_of_others),
            "longer": departures(longer, longer_of_others),
        }
    elif rated.kind == "scores":
        higher = [_higher(row, vote) for row, vote in votes]
        found["higher_than_others"] = share_against_half(higher)
        courses["higher_than_others"] = higher
    found["drift"] = {name: drift_between_halves(cases) for name, cases in courses.items()}
    return found


def _others(rated: RatedRows, row: RatedRow, rater: str) -> float | None:
    """Return the verdict that most of the other raters gave to a row; None without others, or with a draw."""
    counts: dict[float, int] = {}
    for vote in row.votes:
        if vote.rater != rater:
            verdict = rated.verdict(vote.value)
            counts[verdict] = counts.get(verdict, 0) + 1
    most = max(counts.values(), default=0)
    best = [verdict for verdict, count in counts.items() if count == most]
    return best[0] if len(best) == 1 else None


def _chose(value: float) -> bool | None:
    """Return whether the first side was chosen; None for a tie."""
    return None if value == 0 else value < 0


def _longer(chose_first: bool | None, row: RatedRow) -> bool | None:
    return None if chose_first is None or row.first_longer is None else chose_first == row.first_longer


def _higher(row: RatedRow, vote: RaterVote) -> bool | None:
    """Return whether a score is above the mean of the others; None where it equals it, or there are none."""
    rest = [one.value for one in row.votes if one.rater != vote.rater]
    difference = vote.value - float(np.mean(rest)) if rest else 0.0
    return None if abs(difference) < 1e-9 else difference > 0
