"""Print the figures of `rater_report` as tables for a terminal. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harken.run.terminal import format_table

SIGNIFICANCE_LEVEL = 0.05
MAX_LISTED_RATERS = 30
"""Raters, and pairs of raters, that are printed; the JSON has all."""
_HABIT_TEXTS = {
    "first_than_others": "chooses the first side {more} often than the others",
    "longer_than_others": "chooses the longer response {more} often than the others",
    "higher_than_others": "scores {higher} than the others",
}
_DRIFT_TEXTS = {
    "with_others": "agrees with the others",
    "first": "departs from the others to the first side",
    "ties": "departs from the others to a tie",
    "longer": "departs from the others to the longer response",
    "higher_than_others": "scores above the others",
}


def rater_lines(report: Mapping[str, Any], verdict: Mapping[str, Any], width: int = 80) -> list[str]:
    """Return the tables and findings as lines of at most `width` columns where words allow."""
    lines = [_header_line(report), *_dropped(report), *_figures(report, width)]
    lines += _pairs(report["cohen_kappa"], width)
    lines += _raters(report, width)
    lines += _reliability(report["dawid_skene"], width)
    lines += _findings(report)
    return [*lines, *_noise(report), f"{verdict['status']}: {verdict['why']}", *_gold(verdict)]


def _header_line(report: Mapping[str, Any]) -> str:
    count = len(report["raters"])
    who = f"{count:,} rater{'' if count == 1 else 's'}" if report["named"] else "raters without names"
    return (
        f"{report['file']}: {report['votes']:,} votes on {report['rows']:,} rows by {who}, read as {report['kind']} "
        f"(layout {report['layout']}); {report['rows_with_two']:,} rows have two or more"
    )


def _dropped(report: Mapping[str, Any]) -> list[str]:
    lines = [f"  {count:,} left out: {reason}" for reason, count in report["dropped"].items()]
    return [*lines, f"  for example {', '.join(report['unread'])}"] if report["unread"] else lines


def _figures(report: Mapping[str, Any], width: int) -> list[str]:
    rows: list[tuple[str, str, str, str]] = []
    if unanimous := report["unanimous"]:
        rows.append(("rows with one verdict", *_percent(unanimous), f"{unanimous['n']:,}"))
    if percent := report["percent"]:
        rows.append(("percent agreement", *_percent(percent), f"{percent['rows']:,}"))
    for level, alpha in report["alpha"].items():
        rows.append((f"Krippendorff's alpha, {level}", *_number(alpha)))
    if report["fleiss_kappa"]:
        rows.append(("Fleiss' kappa", *_number(report["fleiss_kappa"])))
    if ceiling := report["ceiling"]:
        value = {**ceiling, "value": ceiling["agreement"]}
        rows.append(("ceiling: a rater with most others", *_percent(value), f"{ceiling['rows']:,}"))
    names = ("figure", "value", "95 % interval", "rows")
    cells = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)) if rows else {}
    return ["", *format_table(cells, right=set(names[1:]), width=width).splitlines()] if rows else []


def _pairs(kappas: Sequence[Mapping[str, Any]], width: int) -> list[str]:
    if not kappas:
        return []
    listed = kappas[:MAX_LISTED_RATERS]
    numbers = [_number(entry["kappa"]) for entry in listed]
    cells = {
        "raters": [" and ".join(entry["raters"]) for entry in listed],
        "Cohen's kappa": [number[0] for number in numbers],
        "95 % interval": [number[1] for number in numbers],
        "rows": [f"{entry['rows']:,}" for entry in listed],
    }
    more = (
        [f"… and {len(kappas) - MAX_LISTED_RATERS:,} more pairs"] if len(kappas) > MAX_LISTED_RATERS else []
    )
    return ["", *format_table(cells, right=set(list(cells)[1:]), width=width, longest=40).splitlines(), *more]


def _raters(report: Mapping[str, Any], width: int) -> list[str]:
    raters = _listed(report["raters"])
    if not raters:
        return []
    cells = {
        "rater": [rater["rater"] for rater in raters],
        "votes": [f"{rater['votes']:,}" for rater in raters],
        "as most others": [_percent(rater["with_others"])[0] for rater in raters],
    }
    for name, title in (
        ("ties", "ties"),
        ("first", "first"),
        ("longer", "longer"),
        ("higher_than_others", "higher"),
    ):
        if any(rater.get(name) for rater in raters):
            cells[title] = [_percent(rater.get(name))[0] for rater in raters]
    if any(rater["gold"] for rater in raters):
        cells["gold right"] = [_percent(rater["gold"])[0] for rater in raters]
    more = len(report["raters"]) - len(raters)
    table = format_table(cells, right=set(list(cells)[1:]), width=width, longest=24).splitlines()
    return ["", *table, *([f"… and {more:,} more raters"] if more else []), ""]


def _listed(raters: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Return the raters that are printed: of many, those with the most votes."""
    if len(raters) <= MAX_LISTED_RATERS:
        return raters
    return sorted(raters, key=lambda rater: -rater["votes"])[:MAX_LISTED_RATERS]


def _reliability(fit: Mapping[str, Any] | None, width: int) -> list[str]:
    """Print how often each rater is right by Dawid and Skene's model."""
    if fit is None:
        return []
    listed = _listed(fit["raters"])
    numbers = [_percent(rater) for rater in listed]
    cells = {
        "rater": [rater["rater"] for rater in listed],
        "right, by Dawid-Skene": [number[0] for number in numbers],
        "95 % interval": [number[1] for number in numbers],
        "votes": [f"{rater['votes']:,}" for rater in listed],
    }
    lines = format_table(cells, right=set(list(cells)[1:]), width=width, longest=40).splitlines()
    if not fit["converged"]:
        lines.append(f"EM has not converged in {fit['iterations']:,} steps")
    return [*lines, ""]


def _findings(report: Mapping[str, Any]) -> list[str]:
    """Name the habits and drifts that differ from chance after Holm's adjustment."""
    raters = report["raters"]
    lines = [line for rater in raters for line in (*_habit_lines(rater), *_drift_lines(rater))]
    if not report["rows_with_two"]:
        lines.append(
            "no row has labels of two raters: agreement is unknown. Fix: give some rows to two raters"
        )
    elif raters and not lines:
        lines = ["no rater departs from the others, or drifts, beyond chance (Holm-adjusted p < 0.05)"]
    return lines


def _habit_lines(rater: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, words in _HABIT_TEXTS.items():
        habit = rater.get(name)
        if habit and habit["holm_p"] < SIGNIFICANCE_LEVEL:
            is_more = habit["value"] > 0.5
            text = words.format(more="more" if is_more else "less", higher="higher" if is_more else "lower")
            lines.append(
                f"{rater['rater']} {text}: {habit['count']:,} of {habit['n']:,} rows that differ "
                f"(p {habit['holm_p']:.2g})"
            )
    return lines


def _drift_lines(rater: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, words in _DRIFT_TEXTS.items():
        drift = rater["drift"].get(name)
        if drift and drift["p"] is not None and drift["holm_p"] < SIGNIFICANCE_LEVEL:
            before, after = (drift[half] for half in ("first_half", "second_half"))
            lines.append(
                f"{rater['rater']} drifts: {words} in {before['count']:,} of {before['n']:,} cases of the first "
                f"half, {after['count']:,} of {after['n']:,} of the second (p {drift['holm_p']:.2g})"
            )
    return lines


def _noise(report: Mapping[str, Any]) -> list[str]:
    majorities = report["majorities"]
    if not majorities:
        return []
    listed = ", ".join(f"{n}: {value:.1%}" for n, value in majorities["right"].items())
    return [f"if raters err independently and equally often, a majority of so many is right: {listed}"]


def _gold(verdict: Mapping[str, Any]) -> list[str]:
    return [
        f"  {name}: {rater_verdict['status']}, {rater_verdict['why']}"
        for name, rater_verdict in verdict["raters"].items()
        if rater_verdict["status"] != "unclear"
    ][:MAX_LISTED_RATERS]


def _percent(share: Mapping[str, Any] | None) -> tuple[str, str]:
    return (
        ("–", "–")
        if share is None
        else (f"{share['value']:.1%}", f"{share['low']:.1%} to {share['high']:.1%}")
    )


def _number(estimate: Mapping[str, Any] | None) -> tuple[str, str, str]:
    if estimate is None:
        return "–", "–", "–"
    return (
        f"{estimate['value']:.3f}",
        f"{estimate['low']:.3f} to {estimate['high']:.3f}",
        f"{estimate['rows']:,}",
    )
