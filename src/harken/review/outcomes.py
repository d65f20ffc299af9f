"""Turn votes for left and right into votes for policies: the only place where sides become policies. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from harken.evaluation.response_table import count_words
from harken.review.assignment import ReviewTask
from harken.review.items import ReviewItem
from harken.review.study import Study
from harken.review.votes import Vote, current_votes

Outcome = Literal["first", "second", "tie", "both_bad", "skip"]
MIN_SECONDS = 1.0
"""A vote faster than this is too fast whatever the texts are."""


@dataclass(frozen=True, slots=True)
class UnblindedVote:
    """Hold a standing vote with its item. `outcome` names the item's first or second policy."""

    vote: Vote
    task: ReviewTask
    item: ReviewItem
    outcome: Outcome

    @property
    def score(self) -> float | None:
        """Return −3 … 3, negative for the item's first policy, 0 for a tie and both bad; None for a skip.

        A vote without a strength counts 1.
        """
        if self.outcome == "skip":
            return None
        size = float(self.vote.strength or 1)
        return {"first": -size, "second": size}.get(self.outcome, 0.0)

    @property
    def sign(self) -> int | None:
        """Return −1, 0 or 1 as `score`."""
        score = self.score
        return None if score is None else (score > 0) - (score < 0)

    @property
    def right_gold(self) -> bool | None:
        """Return whether the better text of a gold item was chosen; None for a skip and for other items."""
        if self.item.gold is None or self.outcome == "skip":
            return None
        return self.outcome == ("first", "second")[self.item.gold]

    def too_fast(self, words_per_second: float) -> bool:
        """Return whether both responses cannot have been read in the time."""
        words = sum(count_words(text) for text in self.item.texts)
        return self.vote.seconds < max(MIN_SECONDS, words / words_per_second)


def unblind(study: Study, votes: Sequence[Vote]) -> list[UnblindedVote]:
    """Return the standing votes in the order in which they were given, with their policies.

    Votes of tasks that the study does not have are left out: the store refuses them.
    """
    unblinded = []
    for vote in sorted(current_votes(votes).values(), key=lambda vote: vote.number):
        rater_task = study.by_task.get(vote.task)
        if rater_task is None or rater_task[0] != vote.rater:
            continue
        task = rater_task[1]
        unblinded.append(
            UnblindedVote(vote, task, study.item_of(task), outcome_of(vote.choice, task.first_left))
        )
    return unblinded


def outcome_of(choice: str, first_left: bool) -> Outcome:
    """Return what a choice of side means for the item. Raises ValueError for `undo`, which is no standing vote."""
    if choice in ("left", "right"):
        return "first" if (choice == "left") == first_left else "second"
    if choice == "tie":
        return "tie"
    if choice == "both_bad":
        return "both_bad"
    if choice == "skip":
        return "skip"
    raise ValueError(f"{choice!r} is no vote")
