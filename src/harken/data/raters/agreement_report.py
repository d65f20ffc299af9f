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
    AgreementInterval,
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

    For comparisons, percent agreement, kappas and nominal alpha compare sides (first, second, tie), and ordinal and
    interval alpha compare the scores. Labels that are words have only the former. Raters without names have no kappas
    by pair, no habits and no drift, because a position in a list does not identify a person.
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
        "percent": _to_dict(percent),
        "alpha": {
            level: _to_dict(alpha_interval(verdicts if level == "nominal" else values, level, draws, seed))
            for level in levels
        },
        "fleiss_kappa": _to_dict(fleiss_interval(rows_with_two, draws, seed)) if equal_numbers else None,
        "cohen_kappa": _kappas(rated, draws, seed),
        "ceiling": _ceiling(rated, values),
        "majorities": _majorities(rated, verdicts),
        "dawid_skene": rater_reliability(rated, min(draws, RELIABILITY_DRAWS), seed),
        "raters": _habits(rated),
    }


def _to_dict(interval: AgreementInterval | None) -> dict[str, Any] | None:
    return asdict(interval) if interval else None


def _kappas(rated: RatedRows, draws: int, seed: int) -> list[dict[str, Any]]:
    """Return Cohen's kappa of every two raters on the rows that both labelled, at most MAX_PAIRS_OF_RATERS of them."""
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
        kappa = _to_dict(cohen_interval(*both, draws, seed))
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
    ceiling = rater_ceiling(rows)
    return asdict(ceiling) if ceiling else None


def _majorities(rated: RatedRows, verdicts: Sequence[Sequence[float]]) -> dict[str, Any] | None:
    """Return how often one rater and majorities of three to seven would be right, from agreement where both decide."""
    if rated.kind != "comparisons":
        return None
    decided = [[side for side in row if side] for row in verdicts]
    agreement = (
        percent_agreement_interval(decided, draws=1) if any(len(row) >= 2 for row in decided) else None
    )
    accuracy = rater_accuracy(agreement.value) if agreement else None
    if agreement is None or accuracy is None:
        return None
    accuracies = {str(n): majority_accuracy(accuracy, n) for n in (1, 3, 5, 7)}
    return {"agreement_without_ties": agreement.value, "right": accuracies}


def _by_rater(rated: RatedRows) -> dict[str, list[RatedVote]]:
    """Return every rater's votes with their rows, in the order in which they were given."""
    votes_by_rater: dict[str, list[RatedVote]] = {rater: [] for rater in rated.raters}
    if rated.named:
        for row in rated.rows:
            for vote in row.votes:
                votes_by_rater[vote.rater].append((row, vote))
    return {rater: sorted(votes, key=lambda entry: entry[1].order) for rater, votes in votes_by_rater.items()}


def _habits(rated: RatedRows) -> list[dict[str, Any]]:
    """Return the habits of every rater; p-values of one habit are adjusted over the raters, those of drift over all."""
    habits = [_rater_habits(rated, rater, votes) for rater, votes in _by_rater(rated).items()]
    for name in ("first", "first_than_others", "longer", "longer_than_others", "higher_than_others"):
        adjust_p_values([figures[name] for figures in habits if name in figures])
    adjust_p_values([drift for figures in habits for drift in figures["drift"].values()])
    return habits


def _rater_habits(rated: RatedRows, rater: str, votes: Sequence[RatedVote]) -> dict[str, Any]:
    """Return the habits of one rater.

    Drift is measured on the rows where the rater departs from the others: if all raters change together, the rows have
    changed, not the raters.
    """
    others = [_majority_of_others(rated, row, rater) for row, _ in votes]
    agrees = [
        None if others_verdict is None else rated.verdict(vote.value) == others_verdict
        for (_, vote), others_verdict in zip(votes, others, strict=True)
    ]
    gold = [
        None if row.gold is None else rated.verdict(vote.value) == rated.verdict(row.gold)
        for row, vote in votes
    ]
    habits: dict[str, Any] = {
        "rater": rater,
        "votes": len(votes),
        "with_others": share(agrees),
        "gold": share(gold),
    }
    series: dict[str, list[bool | None]] = {"with_others": agrees}
    if rated.kind == "comparisons":
        chose_first = [_chose_first(vote.value) for _, vote in votes]
        others_chose_first = [
            None if others_verdict is None else _chose_first(others_verdict) for others_verdict in others
        ]
        chose_longer = [_chose_longer(first, row) for first, (row, _) in zip(chose_first, votes, strict=True)]
        others_chose_longer = [
            _chose_longer(first, row) for first, (row, _) in zip(others_chose_first, votes, strict=True)
        ]
        habits |= {
            "ties": share([vote.value == 0 for _, vote in votes]),
            "first": share_against_half(chose_first),
            "first_than_others": leaning(chose_first, others_chose_first),
            "longer": share_against_half(chose_longer),
            "longer_than_others": leaning(chose_longer, others_chose_longer),
        }
        is_tie = [vote.value == 0 for _, vote in votes]
        others_tie = [None if others_verdict is None else others_verdict == 0 for others_verdict in others]
        series |= {
            "first": departures(chose_first, others_chose_first),
            "ties": departures(is_tie, others_tie),
            "longer": departures(chose_longer, others_chose_longer),
        }
    elif rated.kind == "scores":
        higher = [_is_higher(row, vote) for row, vote in votes]
        habits["higher_than_others"] = share_against_half(higher)
        series["higher_than_others"] = higher
    habits["drift"] = {name: drift_between_halves(cases) for name, cases in series.items()}
    return habits


def _majority_of_others(rated: RatedRows, row: RatedRow, rater: str) -> float | None:
    """Return the verdict that most of the other raters gave to a row; None without others, or with a draw."""
    counts: dict[float, int] = {}
    for vote in row.votes:
        if vote.rater != rater:
            verdict = rated.verdict(vote.value)
            counts[verdict] = counts.get(verdict, 0) + 1
    max_count = max(counts.values(), default=0)
    best = [verdict for verdict, count in counts.items() if count == max_count]
    return best[0] if len(best) == 1 else None


def _chose_first(value: float) -> bool | None:
    """Return whether the first side was chosen; None for a tie."""
    return None if value == 0 else value < 0


def _chose_longer(chose_first: bool | None, row: RatedRow) -> bool | None:
    return None if chose_first is None or row.first_longer is None else chose_first == row.first_longer


def _is_higher(row: RatedRow, vote: RaterVote) -> bool | None:
    """Return whether a score is above the mean of the others; None where it equals it, or there are none."""
    other_scores = [other.value for other in row.votes if other.rater != vote.rater]
    difference = vote.value - float(np.mean(other_scores)) if other_scores else 0.0
    return None if abs(difference) < 1e-9 else difference > 0
