"""Choose the large numbers that open the page of an evaluation, in words that need no glossary. No torch."""

from __future__ import annotations

from typing import Any

from harken.evaluate.flip import Figures
from harken.evaluate.verdict import REWARD_COLUMNS, REWARD_MODEL_SCORER, find_pair, find_policy


def headline_numbers(
    summary: Figures, before: str | None, after: str, judge: str | None = None
) -> list[dict[str, Any]]:
    """Return at most three numbers, each with "label", "value", "detail" and where rows are behind it "filter".

    How often `after` has the higher reward than `before`; the same by `judge`, or else the length of its responses;
    and how many of its responses are truncated, repetitive or empty. `before` None: only the policy's own numbers.
    Raises KeyError when a policy or judge is not in the summary.
    """
    found = []
    if before is not None:
        pair = find_pair(summary, before, after)
        found.append(_wins(pair, before, after, _scorer(summary)))
        if judge is not None and (judged := pair["scorers"].get(judge)) and judged["win_rate"]:
            found.append(
                _wins(judged, before, after, f"scored by {judge}, which training did not use", judge)
            )
    if len(found) < 2:
        found.append(_length(summary, before, after))
    return [*found, *_defects(summary, before, after)][:3]


def _scorer(summary: Figures) -> str:
    """Say who gave the scores. A column of a file is often just called score: "scored by score" says nothing."""
    scorer = str(summary.get("scorer", REWARD_MODEL_SCORER))
    if scorer == REWARD_MODEL_SCORER:
        return "scored by the reward model"
    return f"by the column {scorer} of the files" if scorer in REWARD_COLUMNS else f"scored by {scorer}"


def _wins(pair: Figures, before: str, after: str, scorer: str, judge: str | None = None) -> dict[str, Any]:
    rate = pair["win_rate"]
    whom = f"{after} scored above {before}"
    return {
        "label": whom if judge is None else f"{whom} by an independent scorer",
        "value": f"{100 * rate['value']:.0f} %",
        "detail": f"{pair['wins']} of {rate['n']} responses, {pair['ties']} equal; {scorer}; "
        f"95 % interval {_interval(rate)}",
        "filter": {"better": after, "than": before} | ({} if judge is None else {"scorer": judge}),
    }


def _length(summary: Figures, before: str | None, after: str) -> dict[str, Any]:
    unit = summary["length_unit"]
    own = find_policy(summary, after)["mean_response_length"]
    other = (
        "" if before is None else f"{before}: {find_policy(summary, before)['mean_response_length']:.0f}; "
    )
    return {
        "label": f"Length of {after}'s responses",
        "value": f"{own:.0f} {unit}",
        "detail": f"{other}mean of {summary['n']} responses",
    }


def _defects(summary: Figures, before: str | None, after: str) -> list[dict[str, Any]]:
    """Return the rate of the defect that most responses of `after` have; [] where none was measured."""
    own = find_policy(summary, after)
    other = None if before is None else find_policy(summary, before)
    words = {
        "cap_hit": "truncated at the token limit",
        "repetition": "that repeat themselves",
        "empty": "that are empty",
    }
    known = [name for name in words if own[name] is not None]
    if not known:
        return []
    name = max(known, key=lambda one: float(own[one]["value"]))
    beside = "" if other is None or other[name] is None else f"{before}: {100 * other[name]['value']:.0f} %; "
    return [
        {
            "label": f"{after}'s responses {words[name]}",
            "value": f"{100 * own[name]['value']:.0f} %",
            "detail": f"{beside}{own[name]['count']} of {own[name]['n']}; 95 % interval {_interval(own[name])}",
            # The audit measures the other two by thresholds of its own, so its flags count other rows.
            **({"filter": {"policy": after, "flag": name}} if name == "cap_hit" else {}),
        }
    ]


def _interval(rate: Figures) -> str:
    return f"{100 * rate['low']:.0f} to {100 * rate['high']:.0f} %"
