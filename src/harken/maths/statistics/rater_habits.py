"""Measure a rater's habits from votes in order: shares, drift between halves, and a leaning against the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scipy.stats import fisher_exact

from harken.maths.statistics.intervals import wilson_interval
from harken.maths.statistics.multiplicity import holm
from harken.maths.statistics.paired import sign_test

HABIT_CONFIDENCE = 0.95


def share(cases: Sequence[bool | None]) -> dict[str, Any] | None:
    """Return count, n, value and Wilson interval of a share; None without a case that counts."""
    known = [case for case in cases if case is not None]
    if not known:
        return None
    count = sum(known)
    low, high = wilson_interval(count, len(known), HABIT_CONFIDENCE)
    return {"count": count, "n": len(known), "value": count / len(known), "low": low, "high": high}


def share_against_half(cases: Sequence[bool | None]) -> dict[str, Any] | None:
    """Return `share` with `p`, the exact two-sided p-value of the sign test against one half."""
    figures = share(cases)
    return (
        None
        if figures is None
        else {**figures, "p": sign_test(figures["count"], figures["n"] - figures["count"])}
    )


def drift_between_halves(cases: Sequence[bool | None]) -> dict[str, Any]:
    """Compare the share in the first half of votes, in order, with the second: `p` of Fisher's exact test.

    `p` is None where one half has no case that counts.
    """
    middle = len(cases) // 2
    early, late = ([case for case in half if case is not None] for half in (cases[:middle], cases[middle:]))
    table = [[sum(half), len(half) - sum(half)] for half in (early, late)]
    p = float(fisher_exact(table).pvalue) if early and late else None
    return {"first_half": share(early), "second_half": share(late), "p": p}


def departures(choices: Sequence[bool | None], other_choices: Sequence[bool | None]) -> list[bool | None]:
    """Return the rater's choice on each row where the others chose the opposite, None elsewhere.

    `own` and `others` hold the choice on the same rows, None for no choice.
    """
    return [
        choice if choice is not None and other is not None and choice != other else None
        for choice, other in zip(choices, other_choices, strict=True)
    ]


def leaning(choices: Sequence[bool | None], other_choices: Sequence[bool | None]) -> dict[str, Any] | None:
    """Return how often a rater chose True where the others chose the opposite, tested against one half.

    This is McNemar's test of the two rates of True. Rows on which both agree are left out, because the better side may
    be the same one on most rows. If each side is the better one equally often, a rater without the habit departs to
    both sides equally often. If not, a rater with more errors than the others departs more often from the side that is
    better more often.
    """
    return share_against_half(departures(choices, other_choices))


def adjust_p_values(figures: Sequence[dict[str, Any] | None]) -> None:
    """Add `holm_p` to all figures with a `p`: Holm's adjustment over all of them together."""
    tested = [figure for figure in figures if figure is not None and figure["p"] is not None]
    for figure, p in zip(tested, holm([figure["p"] for figure in tested]), strict=True):
        figure["holm_p"] = p
