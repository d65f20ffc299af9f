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

MAX_TOO_FAST = 0.25
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
    done = [vote for vote in unblind(study, votes) if vote.task.kind == "calibration"]
    rater_votes = [vote for vote in done if vote.vote.rater == rater]
    gold = [vote for vote in rater_votes if vote.item.gold is not None]
    right = sum(bool(vote.right_gold) for vote in gold)
    fast_count = sum(vote.too_fast(study.config.reading_speed) for vote in rater_votes)
    status: CalibrationStatus = (
        "none" if not tasks else "unfinished" if len(rater_votes) < len(tasks) else "go"
    )
    reason = ""
    if status == "go" and gold and right / len(gold) < study.config.calibration_accuracy:
        status = "no-go"
        reason = f"fewer than {study.config.calibration_accuracy:.0%} of the gold right"
    elif status == "go" and fast_count > MAX_TOO_FAST * len(rater_votes):
        status, reason = "no-go", f"more than {MAX_TOO_FAST:.0%} of the votes were faster than reading"
    return CalibrationResult(
        rater,
        status,
        len(rater_votes),
        len(tasks),
        right,
        len(gold),
        fast_count,
        _agreement(rater_votes, done),
        reason,
    )


def _agreement(rater_votes: Sequence[UnblindedVote], all_votes: Sequence[UnblindedVote]) -> float | None:
    """Return the share of equal outcomes with each other rater on the same items."""
    outcome_by_item = {vote.item.id: vote.outcome for vote in rater_votes}
    rows = [
        (outcome_by_item[vote.item.id], vote.outcome)
        for vote in all_votes
        if vote.item.id in outcome_by_item and not any(vote is own_vote for own_vote in rater_votes)
    ]
    return percent_agreement(rows)
