"""Measure how far a judge agrees with people: share, Cohen's kappa, slices, flips, position and length. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harken.judging.both_orders import JudgedPair, order_figures
from harken.judging.pair import ResponsePair
from harken.judging.session import shown_share
from harken.maths.statistics.agreement import AlphaInterval, rater_ceiling
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
LEAST_SLICE = 5
"""Fewest pairs of a slice that is listed."""


@dataclass(frozen=True)
class LabelledPair:
    """Hold a pair as the judge sees it, and the side that people prefer: 1 the first, -1 the second, 0 a tie."""

    pair: ResponsePair
    side: int
    row: Preference


def labelled_pair(row: Preference, seed: int) -> LabelledPair:
    """Return a labelled pair in the order of its row, or by the seed where the row's order is that of its label."""
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
    rows = [(pair, one) for pair, one in zip(labelled, judged, strict=True) if one.outcome != "failed"]
    decided = [(pair, one) for pair, one in rows if pair.side]
    sure = [(pair, one) for pair, one in decided if judge_side(one)]
    votes = [tuple(pair.row.raters) for pair, _ in rows if len(pair.row.raters) >= 3]
    ceiling = rater_ceiling(votes) if votes else None
    length = _length_bias(sure)
    return {
        "pairs": len(labelled),
        "people_ties": sum(pair.side == 0 for pair in labelled),
        "agreement": _rate([_agrees(*one) for one in sure], [pair for pair, _ in sure]),
        "agreement_all": _rate([_agrees(*one) for one in decided], [pair for pair, _ in decided]),
        "kappa": _kappa(rows, draws, seed),
        "kappa_decided": _kappa(sure, draws, seed),
        "people": None
        if ceiling is None
        else {"n": ceiling.cases, "share": ceiling.agreement, "low": ceiling.low, "high": ceiling.high},
        "length": length,
        "biases": _biases(length),
        "slices": _slices(decided),
        "orders": order_figures(judged),
    }


def judge_side(one: JudgedPair) -> int:
    """Return 1, -1 or 0: the side of a verdict that does not change with the order, else 0."""
    return {"first": 1, "second": -1}.get(one.outcome, 0)


def _agrees(pair: LabelledPair, one: JudgedPair) -> float:
    return (1 + pair.side * judge_side(one)) / 2


def _rate(values: Sequence[float], pairs: Sequence[LabelledPair]) -> dict[str, Any] | None:
    if not values:
        return None
    clusters = np.unique([repr(pair.pair.messages) for pair in pairs], return_inverse=True)[1]
    found = clustered_jeffreys(
        np.bincount(clusters, values), np.bincount(clusters), halves=any(v == 0.5 for v in values)
    )
    return {"n": len(values), "share": found.mean, "low": found.low, "high": found.high}


def _kappa(rows: Sequence[tuple[LabelledPair, JudgedPair]], draws: int, seed: int) -> dict[str, Any] | None:
    people, judge = [pair.side for pair, _ in rows], [judge_side(one) for _, one in rows]
    found: AlphaInterval | None = cohen_interval(people, judge, draws, seed) if rows and draws else None
    return (
        None
        if found is None
        else {"n": len(rows), "value": found.value, "low": found.low, "high": found.high}
    )


def _length_bias(rows: Sequence[tuple[LabelledPair, JudgedPair]]) -> dict[str, Any] | None:
    """Compare how often the judge and people prefer the longer response, on the same pairs."""
    judge, people, clusters = [], [], []
    for pair, one in rows:
        gap = np.sign(len(pair.pair.first) - len(pair.pair.second))
        if gap:
            judge.append((1 + gap * judge_side(one)) / 2)
            people.append((1 + gap * pair.side) / 2)
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
    found: dict[str, dict[str, Any]] = {}
    for column, names in columns.items():
        values = sorted(set(names), key=lambda name: -names.count(name))[:MAX_LISTED_VALUES]
        parts = {
            name or "none": [row for row, own in zip(rows, names, strict=True) if own == name]
            for name in values
        }
        kept = {name: part for name, part in parts.items() if len(part) >= LEAST_SLICE}
        if len(kept) > 1:
            found[column] = {
                name: _rate([_agrees(*one) for one in part], [pair for pair, _ in part])
                for name, part in kept.items()
            }
    return found


def _preferred_length(pair: LabelledPair) -> str:
    gap = (len(pair.pair.first) - len(pair.pair.second)) * pair.side
    return "the longer" if gap > 0 else "the shorter" if gap < 0 else "equal length"


def _unanimity(raters: Sequence[float]) -> str:
    return "" if len(raters) < 2 else "unanimous" if len({np.sign(r) for r in raters}) == 1 else "divided"


def judge_agreement_lines(found: dict[str, Any]) -> list[str]:
    """Format the agreement for the terminal and for Markdown."""
    lines = [
        f"agreement with people: {shown_share(found['agreement'])} of "
        f"{_n(found['agreement']):,} pairs with a consistent verdict; {shown_share(found['agreement_all'])} of "
        f"{_n(found['agreement_all']):,} with a change or a tie as one half",
        f"  Cohen's kappa: {_number(found['kappa'])} with ties, {_number(found['kappa_decided'])} on "
        "consistent verdicts",
    ]
    if found["people"] is not None:
        lines.append(
            f"  a rater agrees with the majority of the others in {shown_share(found['people'])} of cases"
        )
    if (length := found["length"]) is not None:
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
    for column, parts in found["slices"].items():
        listed = "; ".join(f"{name} {shown_share(part)} ({part['n']:,})" for name, part in parts.items())
        lines.append(f"  by {column}: {listed}")
    lines += [f"warning: the judge {LENGTH_WORDS[name]} ({name})" for name in found["biases"]]
    return lines


def _n(found: dict[str, Any] | None) -> int:
    return 0 if found is None else int(found["n"])


def _number(found: dict[str, Any] | None) -> str:
    return "none" if found is None else f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"
