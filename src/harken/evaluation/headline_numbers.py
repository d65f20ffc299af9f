"""Choose the large numbers at the top of an evaluation's page, in everyday words. No torch."""

from __future__ import annotations

from typing import Any

from harken.evaluation.flip import Figures
from harken.evaluation.verdict import REWARD_COLUMNS, REWARD_MODEL_SCORER, find_pair, find_policy


def headline_numbers(
    summary: Figures, before: str | None, after: str, judge: str | None = None
) -> list[dict[str, Any]]:
    """Return at most three numbers, each with "label", "value", "detail" and, if it counts rows, "filter".

    How often `after` has a higher reward than `before`; the same by `judge`, or else the length of its responses;
    and how many of its responses are truncated, repetitive or empty. `before` None: only the policy's own numbers.
    Raises KeyError when a policy or judge is not in the summary.
    """
    numbers = []
    if before is not None:
        pair = find_pair(summary, before, after)
        numbers.append(_wins(pair, before, after, _scorer(summary)))
        if judge is not None and (judged := pair["scorers"].get(judge)) and judged["win_rate"]:
            numbers.append(
                _wins(judged, before, after, f"scored by {judge}, which training did not use", judge)
            )
    if len(numbers) < 2:
        numbers.append(_length(summary, before, after))
    return [*numbers, *_defects(summary, before, after)][:3]


def _scorer(summary: Figures) -> str:
    """Name the scorer. A column of a file is often called just "score", and "scored by score" is not informative."""
    scorer = str(summary.get("scorer", REWARD_MODEL_SCORER))
    if scorer == REWARD_MODEL_SCORER:
        return "scored by the reward model"
    return f"by the column {scorer} of the files" if scorer in REWARD_COLUMNS else f"scored by {scorer}"


def _wins(pair: Figures, before: str, after: str, scorer: str, judge: str | None = None) -> dict[str, Any]:
    rate = pair["win_rate"]
    label = f"{after} scored above {before}"
    return {
        "label": label if judge is None else f"{label} by an independent scorer",
        "value": f"{100 * rate['value']:.0f} %",
        "detail": f"{pair['wins']} of {rate['n']} responses, {pair['ties']} equal; {scorer}; "
        f"95 % interval {_interval(rate)}",
        "filter": {"better": after, "than": before} | ({} if judge is None else {"scorer": judge}),
    }


def _length(summary: Figures, before: str | None, after: str) -> dict[str, Any]:
    unit = summary["length_unit"]
    mean_length = find_policy(summary, after)["mean_response_length"]
    comparison = (
        "" if before is None else f"{before}: {find_policy(summary, before)['mean_response_length']:.0f}; "
    )
    return {
        "label": f"Length of {after}'s responses",
        "value": f"{mean_length:.0f} {unit}",
        "detail": f"{comparison}mean of {summary['n']} responses",
    }


def _defects(summary: Figures, before: str | None, after: str) -> list[dict[str, Any]]:
    """Return the rate of the defect that most responses of `after` have; [] where none was measured."""
    figures = find_policy(summary, after)
    baseline_figures = None if before is None else find_policy(summary, before)
    words = {
        "cap_hit": "truncated at the token limit",
        "repetition": "that repeat themselves",
        "empty": "that are empty",
    }
    measured = [name for name in words if figures[name] is not None]
    if not measured:
        return []
    name = max(measured, key=lambda defect: float(figures[defect]["value"]))
    comparison = (
        ""
        if baseline_figures is None or baseline_figures[name] is None
        else f"{before}: {100 * baseline_figures[name]['value']:.0f} %; "
    )
    return [
        {
            "label": f"{after}'s responses {words[name]}",
            "value": f"{100 * figures[name]['value']:.0f} %",
            "detail": f"{comparison}{figures[name]['count']} of {figures[name]['n']}; "
            f"95 % interval {_interval(figures[name])}",
            # The audit measures the other two by thresholds of its own, so its flags count other rows.
            **({"filter": {"policy": after, "flag": name}} if name == "cap_hit" else {}),
        }
    ]


def _interval(rate: Figures) -> str:
    return f"{100 * rate['low']:.0f} to {100 * rate['high']:.0f} %"
