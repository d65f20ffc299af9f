"""Measure each rater: gold, repeats, sides, speed and drift over time. No torch.

Every figure is of standing votes. Sides are balanced by the plan, so a rater without a habit chooses left as often as
right; a repeat has swapped sides, so a rater who knows what they prefer changes the side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from harken.maths.statistics.agreement import cohen_kappa
from harken.maths.statistics.rater_habits import (
    adjust_p_values,
    drift_between_halves,
    share,
    share_against_half,
)
from harken.review.outcomes import UnblindedVote
from harken.review.study import Study

BLOCK, MAX_BLOCKS = 10, 12
"""Least votes of a block, and most blocks of a rater, in the charts over time."""
HABITS: dict[str, Callable[[UnblindedVote], bool | None]] = {
    "left": lambda one: _chose_left(one),
    "undecided": lambda one: None if one.outcome == "skip" else one.sign == 0,
    "second_policy": lambda one: None if one.sign in (None, 0) else one.sign == 1,
}
"""What may drift: choosing left among decided votes, ties and both bad, the later policy among decided votes."""


def rater_figures(study: Study, unblinded: Sequence[UnblindedVote]) -> list[dict[str, Any]]:
    """Return the figures of every rater, in the order of the study, as dicts for JSON.

    `position.holm_p` is adjusted over the raters, and `drift.*.holm_p` over all raters and habits.
    """
    found: list[dict[str, Any]] = []
    for rater, tasks in study.tasks.items():
        own = [one for one in unblinded if one.vote.rater == rater and one.task.kind != "calibration"]
        found.append(
            {
                "rater": rater,
                "votes": len(own),
                "tasks": sum(task.kind != "calibration" for task in tasks),
                "skips": sum(one.outcome == "skip" for one in own),
                "gold": share([one.right_gold for one in own]),
                "repeats": repeat_figures(own),
                "position": _position(own),
                "too_fast": share([one.too_fast(study.config.reading_speed) for one in own]),
                "median_seconds": float(np.median([one.vote.seconds for one in own])) if own else None,
                "drift": _drift(own),
                "over_time": over_time(own),
            }
        )
    adjust_p_values([one["position"] for one in found])
    adjust_p_values([drift for one in found for drift in one["drift"].values()])
    return found


def repeat_figures(own: Sequence[UnblindedVote]) -> dict[str, Any] | None:
    """Compare a rater's votes on the same items: `same` outcome, Cohen's kappa, and `same_side` where both decide.

    None without an item that was judged twice. A rater who follows the side and not the text has `same_side` near 1.
    """
    first = {one.item.id: one for one in own if one.task.kind == "vote" and one.outcome != "skip"}
    both = [
        (first[one.item.id], one)
        for one in own
        if one.task.kind == "repeat" and one.item.id in first and one.outcome != "skip"
    ]
    if not both:
        return None
    decided = [(a, b) for a, b in both if a.sign and b.sign]
    return {
        "same": share([a.outcome == b.outcome for a, b in both]),
        "kappa": cohen_kappa([a.outcome for a, _ in both], [b.outcome for _, b in both]),
        "same_side": share([a.vote.choice == b.vote.choice for a, b in decided]),
    }


def _chose_left(one: UnblindedVote) -> bool | None:
    return one.vote.choice == "left" if one.vote.choice in ("left", "right") else None


def _position(own: Sequence[UnblindedVote]) -> dict[str, Any] | None:
    """Return how often the left side was chosen among decided votes, with the exact two-sided binomial p."""
    lefts = [left for one in own if (left := _chose_left(one)) is not None]
    return share_against_half(lefts)


def _drift(own: Sequence[UnblindedVote]) -> dict[str, dict[str, Any]]:
    """Compare the first half of a rater's votes with the second, habit by habit, by Fisher's exact test."""
    items = [one for one in own if one.task.kind == "vote"]
    return {name: drift_between_halves([habit(one) for one in items]) for name, habit in HABITS.items()}


def over_time(own: Sequence[UnblindedVote]) -> dict[str, list[list[float]]]:
    """Return each habit, and the median seconds of a vote, in blocks of a rater's votes in order.

    Points are [number of the block's last vote, value, votes that count]. A rater has at most MAX_BLOCKS blocks of at
    least BLOCK votes; fewer than two blocks show no course and give no points.
    """
    items = [one for one in own if one.task.kind == "vote"]
    count = min(MAX_BLOCKS, len(items) // BLOCK)
    ends = [round((i + 1) * len(items) / count) for i in range(count)] if count > 1 else []
    blocks = [(end, items[start:end]) for start, end in zip([0, *ends], ends, strict=False)]
    found: dict[str, list[list[float]]] = {}
    for name, habit in HABITS.items():
        cases = [(end, [case for one in block if (case := habit(one)) is not None]) for end, block in blocks]
        found[name] = [[end, sum(known) / len(known), len(known)] for end, known in cases if known]
    found["seconds"] = [
        [end, float(np.median([one.vote.seconds for one in block])), len(block)] for end, block in blocks
    ]
    return found
