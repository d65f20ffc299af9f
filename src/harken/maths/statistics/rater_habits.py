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
    found = share(cases)
    return None if found is None else {**found, "p": sign_test(found["count"], found["n"] - found["count"])}


def drift_between_halves(cases: Sequence[bool | None]) -> dict[str, Any]:
    """Compare the share in the first half of votes, in order, with the second: `p` of Fisher's exact test.

    `p` is None where one half has no case that counts.
    """
    middle = len(cases) // 2
    early, late = ([case for case in half if case is not None] for half in (cases[:middle], cases[middle:]))
    table = [[sum(half), len(half) - sum(half)] for half in (early, late)]
    p = float(fisher_exact(table).pvalue) if early and late else None
    return {"first_half": share(early), "second_half": share(late), "p": p}


def departures(own: Sequence[bool | None], others: Sequence[bool | None]) -> list[bool | None]:
    """Return the rater's choice on each row where the others chose the opposite, None elsewhere.

    `own` and `others` hold the choice on the same rows, None for no choice.
    """
    return [
        mine if mine is not None and theirs is not None and mine != theirs else None
        for mine, theirs in zip(own, others, strict=True)
    ]


def leaning(own: Sequence[bool | None], others: Sequence[bool | None]) -> dict[str, Any] | None:
    """Return how often a rater chose True where the others chose the opposite, tested against one half.

    This compares the two rates of True (McNemar's test): rows on which both agree say nothing, because the better side
    may be the same one on most rows. Where True is the better side as often as not, a rater without the habit departs
    to either side equally often; elsewhere a rater with more errors than the others departs from the side that is
    better more often.
    """
    return share_against_half(departures(own, others))


def adjust_p_values(figures: Sequence[dict[str, Any] | None]) -> None:
    """Add `holm_p` to all figures with a `p`: Holm's adjustment over all of them together."""
    tested = [one for one in figures if one is not None and one["p"] is not None]
    for one, p in zip(tested, holm([one["p"] for one in tested]), strict=True):
        one["holm_p"] = p
