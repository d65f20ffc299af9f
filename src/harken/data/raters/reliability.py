"""Estimate how often each rater of a file is right, by Dawid and Skene's model, with bootstrap intervals. No torch."""

from __future__ import annotations

from collections import Counter
from typing import Any

from harken.data.raters.rated_rows import RatedRows
from harken.maths.statistics.dawid_skene import (
    RELIABILITY_DRAWS,
    VoteTable,
    dawid_skene,
    reliability_intervals,
)

MIN_RATERS = 3
"""Minimum number of raters: a disagreement of two does not show which of them is right."""
MAX_CLASSES = 10
"""Most different labels of a file whose raters' confusion matrices are estimated."""


def rater_reliability(
    rated: RatedRows, draws: int = RELIABILITY_DRAWS, seed: int = 0
) -> dict[str, Any] | None:
    """Return `iterations`, `converged`, and each rater's `value`, `low`, `high` and `votes`.

    The value is the probability that a vote of the rater is right: first, second or tie of comparisons, the word of
    labels. Only rows with two or more votes count; the interval is a 95 % percentile bootstrap interval over rows. None
    for scores, raters without names, fewer than three raters with such rows, and more than MAX_CLASSES labels.
    """
    if not rated.named or rated.kind == "scores":
        return None
    rows = [row for row in rated.rows if len(row.votes) >= 2]
    votes = Counter(vote.rater for row in rows for vote in row.votes)
    names = [rater for rater in rated.raters if votes[rater]]
    classes = sorted({rated.verdict(vote.value) for row in rows for vote in row.votes})
    if len(names) < MIN_RATERS or not 2 <= len(classes) <= MAX_CLASSES:
        return None
    rater_index = {name: number for number, name in enumerate(names)}
    class_index = {value: number for number, value in enumerate(classes)}
    table = VoteTable.of(
        [
            (place, rater_index[vote.rater], class_index[rated.verdict(vote.value)])
            for place, row in enumerate(rows)
            for vote in row.votes
        ],
        len(rows),
        len(names),
        len(classes),
    )
    fit = dawid_skene(table)
    intervals = reliability_intervals(table, fit, draws=draws, seed=seed)
    return {
        "iterations": fit.iterations,
        "converged": fit.converged,
        "raters": [
            {
                "rater": name,
                "votes": votes[name],
                "value": interval.value,
                "low": interval.low,
                "high": interval.high,
            }
            for name, interval in zip(names, intervals, strict=True)
        ],
    }
