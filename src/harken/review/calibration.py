"""Decide after the calibration round whether a rater goes on. No torch.

Every rater judges the same first items, a third of them gold. A rater goes on with enough of the gold right and few
votes faster than reading. Agreement with the other raters is shown and decides nothing: honest raters may differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from harken.maths.statistics.agreement import percent_agreement
from harken.review.outcomes import UnblindedVote, unblind
from harken.review.study import Study
from harken.review.votes import Vote

MOST_TOO_FAST = 0.25
"""Share of the calibration's votes that may be too fast."""
CalibrationStatus = Literal["none", "unfinished", "go", "no-go"]


@dataclass(frozen=True, slots=True)
class CalibrationResult:
    """Hold a rater's calibration. `agreement`: share of equal outcomes with each other rater, None without one."""

    rater: str
    status: CalibrationStatus
    voted: int
    items: int
    gold_right: int
    gold: int
    too_fast: int
    agreement: float | None
    why: str = ""

    def line(self) -> str:
        """Describe the result in one line."""
        if self.status == "none":
            return f"{self.rater}: no calibration"
        agree = "" if self.agreement is None else f", {self.agreement:.0%} as the other raters"
        head = f"{self.rater}: {self.status}, {self.voted} of {self.items} items"
        return f"{head}, {self.gold_right} of {self.gold} gold right, {self.too_fast} too fast{agree}" + (
            f" ({self.why})" if self.why else ""
        )


def calibration_of(study: Study, votes: Sequence[Vote], rater: str) -> CalibrationResult:
    """Return the calibration of one rater. A skip of gold counts as wrong."""
    tasks = [task for task in study.tasks[rater] if task.kind == "calibration"]
    done = [one for one in unblind(study, votes) if one.task.kind == "calibration"]
    own = [one for one in done if one.vote.rater == rater]
    gold = [one for one in own if one.item.gold is not None]
    right = sum(bool(one.right_gold) for one in gold)
    fast = sum(one.too_fast(study.config.reading_speed) for one in own)
    status: CalibrationStatus = "none" if not tasks else "unfinished" if len(own) < len(tasks) else "go"
    why = ""
    if status == "go" and gold and right / len(gold) < study.config.calibration_accuracy:
        status = "no-go"
        why = f"fewer than {study.config.calibration_accuracy:.0%} of the gold right"
    elif status == "go" and fast > MOST_TOO_FAST * len(own):
        status, why = "no-go", f"more than {MOST_TOO_FAST:.0%} of the votes were faster than reading"
    return CalibrationResult(
        rater, status, len(own), len(tasks), right, len(gold), fast, _agreement(own, done), why
    )


def _agreement(own: Sequence[UnblindedVote], everyone: Sequence[UnblindedVote]) -> float | None:
    """Return the share of equal outcomes with each other rater on the same items."""
    mine = {one.item.id: one.outcome for one in own}
    rows = [
        (mine[one.item.id], one.outcome)
        for one in everyone
        if one.item.id in mine and not any(one is each for each in own)
    ]
    return percent_agreement(rows)
