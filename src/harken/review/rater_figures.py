"""Measure each rater: gold, repeats, sides, speed and drift over time. No torch.

Every figure is of the current votes. Sides are balanced by the plan, so an unbiased rater chooses left as often as
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
"""Minimum votes per block, and maximum blocks per rater, in the charts over time."""
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
    figures: list[dict[str, Any]] = []
    for rater, tasks in study.tasks.items():
        rater_votes = [
            entry for entry in unblinded if entry.vote.rater == rater and entry.task.kind != "calibration"
        ]
        figures.append(
            {
                "rater": rater,
                "votes": len(rater_votes),
                "tasks": sum(task.kind != "calibration" for task in tasks),
                "skips": sum(entry.outcome == "skip" for entry in rater_votes),
                "gold": share([entry.right_gold for entry in rater_votes]),
                "repeats": repeat_figures(rater_votes),
                "position": _position(rater_votes),
                "too_fast": share([entry.too_fast(study.config.reading_speed) for entry in rater_votes]),
                "median_seconds": float(np.median([entry.vote.seconds for entry in rater_votes]))
                if rater_votes
                else None,
                "drift": _drift(rater_votes),
                "over_time": over_time(rater_votes),
            }
        )
    adjust_p_values([entry["position"] for entry in figures])
    adjust_p_values([drift for entry in figures for drift in entry["drift"].values()])
    return figures


def repeat_figures(rater_votes: Sequence[UnblindedVote]) -> dict[str, Any] | None:
    """Compare a rater's votes on the same items: `same` outcome, Cohen's kappa, and `same_side` where both decide.

    None without an item that was judged twice. A rater who follows the side and not the text has `same_side` near 1.
    """
    first = {
        vote.item.id: vote for vote in rater_votes if vote.task.kind == "vote" and vote.outcome != "skip"
    }
    vote_pairs = [
        (first[vote.item.id], vote)
        for vote in rater_votes
        if vote.task.kind == "repeat" and vote.item.id in first and vote.outcome != "skip"
    ]
    if not vote_pairs:
        return None
    decided = [(a, b) for a, b in vote_pairs if a.sign and b.sign]
    return {
        "same": share([a.outcome == b.outcome for a, b in vote_pairs]),
        "kappa": cohen_kappa([a.outcome for a, _ in vote_pairs], [b.outcome for _, b in vote_pairs]),
        "same_side": share([a.vote.choice == b.vote.choice for a, b in decided]),
    }


def _chose_left(vote: UnblindedVote) -> bool | None:
    return vote.vote.choice == "left" if vote.vote.choice in ("left", "right") else None


def _position(rater_votes: Sequence[UnblindedVote]) -> dict[str, Any] | None:
    """Return how often the left side was chosen among decided votes, with the exact two-sided binomial p."""
    lefts = [left for vote in rater_votes if (left := _chose_left(vote)) is not None]
    return share_against_half(lefts)


def _drift(rater_votes: Sequence[UnblindedVote]) -> dict[str, dict[str, Any]]:
    """Compare the first half of a rater's votes with the second, habit by habit, by Fisher's exact test."""
    items = [vote for vote in rater_votes if vote.task.kind == "vote"]
    return {name: drift_between_halves([habit(vote) for vote in items]) for name, habit in HABITS.items()}


def over_time(rater_votes: Sequence[UnblindedVote]) -> dict[str, list[list[float]]]:
    """Return each habit, and the median seconds of a vote, in blocks of a rater's votes in order.

    Points are [number of the block's last vote, value, votes that count]. A rater has at most MAX_BLOCKS blocks of at
    least BLOCK votes; fewer than two blocks give no points.
    """
    items = [vote for vote in rater_votes if vote.task.kind == "vote"]
    count = min(MAX_BLOCKS, len(items) // BLOCK)
    ends = [round((i + 1) * len(items) / count) for i in range(count)] if count > 1 else []
    blocks = [(end, items[start:end]) for start, end in zip([0, *ends], ends, strict=False)]
    curves: dict[str, list[list[float]]] = {}
    for name, habit in HABITS.items():
        cases = [
            (end, [case for vote in block if (case := habit(vote)) is not None]) for end, block in blocks
        ]
        curves[name] = [[end, sum(known) / len(known), len(known)] for end, known in cases if known]
    curves["seconds"] = [
        [end, float(np.median([vote.vote.seconds for vote in block])), len(block)] for end, block in blocks
    ]
    return curves
