"""Measure how far a judge agrees with people: share, Cohen's kappa, slices, flips, position and length. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harken.judging.both_orders import JudgedPair, order_figures
from harken.judging.pair import ResponsePair
from harken.judging.session import format_share
from harken.maths.statistics.agreement import AgreementInterval, rater_ceiling
from harken.maths.statistics.agreement_intervals import cohen_interval
from harken.maths.statistics.intervals import clustered_jeffreys, clustered_mean_interval
from harken.records import Preference
from harken.seeds import derive_seed

LONGER, SHORTER = "prefers_longer_than_people", "prefers_shorter_than_people"
LENGTH_WORDS = {
    LONGER: "prefers the longer response more often than people do",
    SHORTER: "prefers the shorter response more often than people do",
}
MAX_LISTED_VALUES = 12
MIN_SLICE_PAIRS = 5
"""Minimum number of pairs in a listed slice."""


@dataclass(frozen=True)
class LabelledPair:
    """Hold a pair in the order that the judge sees, and the side that people prefer: 1 first, -1 second, 0 tie."""

    pair: ResponsePair
    side: int
    row: Preference


def labelled_pair(row: Preference, seed: int) -> LabelledPair:
    """Return a labelled pair in the order of its row, or in an order by the seed if the row is ordered by its label."""
    chosen_first = row.chosen_first
    if chosen_first is None:
        chosen_first = derive_seed(seed, "judge order", row.prompt.id, row.chosen, row.rejected) % 2 == 0
    sides = (row.chosen, row.rejected) if chosen_first else (row.rejected, row.chosen)
    better = int(np.sign(row.label - 0.5))
    return LabelledPair(
        ResponsePair(row.prompt.id, row.prompt.messages, *sides), better if chosen_first else -better, row
    )


def people_agreement(
    labelled: Sequence[LabelledPair], judged: Sequence[JudgedPair], draws: int, seed: int
) -> dict[str, Any]:
    """Compute the agreement of a judge with people over pairs that both saw.

    `agreement`: share of the pairs on which people prefer a side and the judge's verdict does not change with the
    order. `agreement_all`: the same with every verdict, where a tie and a verdict that changes count half. `kappa`:
    Cohen's, of first, second and tie (a verdict that changes is a tie), over all pairs with two verdicts;
    `kappa_decided` over the pairs of `agreement`. Intervals are 95 %; those of shares are clustered by prompt.
    """
    rows = [
        (pair, verdict) for pair, verdict in zip(labelled, judged, strict=True) if verdict.outcome != "failed"
    ]
    decided = [(pair, verdict) for pair, verdict in rows if pair.side]
    consistent = [(pair, verdict) for pair, verdict in decided if judge_side(verdict)]
    votes = [tuple(pair.row.raters) for pair, _ in rows if len(pair.row.raters) >= 3]
    ceiling = rater_ceiling(votes) if votes else None
    length = _length_bias(consistent)
    return {
        "pairs": len(labelled),
        "people_ties": sum(pair.side == 0 for pair in labelled),
        "agreement": _rate([_agrees(*verdict) for verdict in consistent], [pair for pair, _ in consistent]),
        "agreement_all": _rate([_agrees(*verdict) for verdict in decided], [pair for pair, _ in decided]),
        "kappa": _kappa(rows, draws, seed),
        "kappa_decided": _kappa(consistent, draws, seed),
        "people": None
        if ceiling is None
        else {"n": ceiling.cases, "share": ceiling.agreement, "low": ceiling.low, "high": ceiling.high},
        "length": length,
        "biases": _biases(length),
        "slices": _slices(decided),
        "orders": order_figures(judged),
    }


def judge_side(judged: JudgedPair) -> int:
    """Return the side of a verdict that does not change with the order, 1 or -1, else 0."""
    return {"first": 1, "second": -1}.get(judged.outcome, 0)


def _agrees(pair: LabelledPair, judged: JudgedPair) -> float:
    return (1 + pair.side * judge_side(judged)) / 2


def _rate(values: Sequence[float], pairs: Sequence[LabelledPair]) -> dict[str, Any] | None:
    if not values:
        return None
    clusters = np.unique([repr(pair.pair.messages) for pair in pairs], return_inverse=True)[1]
    interval = clustered_jeffreys(
        np.bincount(clusters, values), np.bincount(clusters), halves=any(value == 0.5 for value in values)
    )
    return {"n": len(values), "share": interval.mean, "low": interval.low, "high": interval.high}


def _kappa(rows: Sequence[tuple[LabelledPair, JudgedPair]], draws: int, seed: int) -> dict[str, Any] | None:
    people, judge = [pair.side for pair, _ in rows], [judge_side(judged) for _, judged in rows]
    interval: AgreementInterval | None = (
        cohen_interval(people, judge, draws, seed) if rows and draws else None
    )
    return (
        None
        if interval is None
        else {"n": len(rows), "value": interval.value, "low": interval.low, "high": interval.high}
    )


def _length_bias(rows: Sequence[tuple[LabelledPair, JudgedPair]]) -> dict[str, Any] | None:
    """Compare how often the judge and people prefer the longer response, on the same pairs."""
    judge, people, clusters = [], [], []
    for pair, judged in rows:
        length_sign = np.sign(len(pair.pair.first) - len(pair.pair.second))
        if length_sign:
            judge.append((1 + length_sign * judge_side(judged)) / 2)
            people.append((1 + length_sign * pair.side) / 2)
            clusters.append(repr(pair.pair.messages))
    if not judge:
        return None
    difference = clustered_mean_interval(np.array(judge) - np.array(people), clusters, limits=(-1.0, 1.0))
    low, high = difference.bounds
    return {
        "n": len(judge),
        "judge": float(np.mean(judge)),
        "people": float(np.mean(people)),
        "difference": {"mean": difference.mean, "low": low, "high": high},
    }


def _biases(length: dict[str, Any] | None) -> list[str]:
    if length is None or length["difference"]["low"] is None:
        return []
    difference = length["difference"]
    return [LONGER] * (difference["low"] > 0) + [SHORTER] * (difference["high"] < 0)


def _slices(rows: Sequence[tuple[LabelledPair, JudgedPair]]) -> dict[str, dict[str, Any]]:
    """Compute agreement (all verdicts) and flips in every slice of columns with at least two values."""
    columns = {
        "domain": [pair.row.prompt.domain for pair, _ in rows],
        "language": [pair.row.prompt.language for pair, _ in rows],
        "people prefer": [_preferred_length(pair) for pair, _ in rows],
        "raters": [_unanimity(pair.row.raters) for pair, _ in rows],
    }
    slices: dict[str, dict[str, Any]] = {}
    for column, names in columns.items():
        values = sorted(set(names), key=lambda name: -names.count(name))[:MAX_LISTED_VALUES]
        rows_by_name = {
            name or "none": [row for row, row_name in zip(rows, names, strict=True) if row_name == name]
            for name in values
        }
        large_enough = {
            name: slice_rows
            for name, slice_rows in rows_by_name.items()
            if len(slice_rows) >= MIN_SLICE_PAIRS
        }
        if len(large_enough) > 1:
            slices[column] = {
                name: _rate([_agrees(*judged) for judged in slice_rows], [pair for pair, _ in slice_rows])
                for name, slice_rows in large_enough.items()
            }
    return slices


def _preferred_length(pair: LabelledPair) -> str:
    length_gap = (len(pair.pair.first) - len(pair.pair.second)) * pair.side
    return "the longer" if length_gap > 0 else "the shorter" if length_gap < 0 else "equal length"


def _unanimity(raters: Sequence[float]) -> str:
    return (
        "" if len(raters) < 2 else "unanimous" if len({np.sign(vote) for vote in raters}) == 1 else "divided"
    )


def judge_agreement_lines(figures: dict[str, Any]) -> list[str]:
    """Format the agreement for the terminal and for Markdown."""
    if not _n(figures["agreement_all"]):
        return ["agreement with people is unknown: no pair counts on which people prefer a side"]
    lines = [
        f"agreement with people: {format_share(figures['agreement'])} of "
        f"{_n(figures['agreement']):,} pairs with a consistent verdict; {format_share(figures['agreement_all'])} of "
        f"{_n(figures['agreement_all']):,} with a change or a tie as one half",
        f"  Cohen's kappa: {_number(figures['kappa'])} with ties, {_number(figures['kappa_decided'])} on "
        "consistent verdicts",
    ]
    if figures["people"] is not None:
        lines.append(
            f"  a rater agrees with the majority of the others in {format_share(figures['people'])} of cases"
        )
    if (length := figures["length"]) is not None:
        difference = length["difference"]
        interval = (
            f" [{100 * difference['low']:+.1f}, {100 * difference['high']:+.1f}]"
            if difference["low"] is not None
            else ""
        )
        lines.append(
            f"  the longer response is preferred: judge {100 * length['judge']:.1f} %, people "
            f"{100 * length['people']:.1f} %, difference {100 * difference['mean']:+.1f} points{interval}"
        )
    for column, slice_figures in figures["slices"].items():
        rates = "; ".join(
            f"{name} {format_share(rate)} ({rate['n']:,})" for name, rate in slice_figures.items()
        )
        lines.append(f"  by {column}: {rates}")
    lines += [f"warning: the judge {LENGTH_WORDS[name]} ({name})" for name in figures["biases"]]
    return lines


def _n(rate: dict[str, Any] | None) -> int:
    return 0 if rate is None else int(rate["n"])


def _number(estimate: dict[str, Any] | None) -> str:
    return (
        "none"
        if estimate is None
        else f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"
    )
