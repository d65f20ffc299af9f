"""Export the votes of a locked review as preference pairs that training reads. No torch.

One row per item whose votes have a winner. Ties, and items on which raters contradict each other, may be kept with
strength 0, which training reads with label 1/2. Items that are both bad give no pair: neither text should be learned.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from harken.data.pair_layouts import CONTRADICTIONS_LEFT_OUT
from harken.errors import UserError
from harken.review.outcomes import UnblindedVote, unblind
from harken.review.study import Study
from harken.review.votes import Vote
from harken.run import atomic

SOURCE = "human-review"
EXPORT_COUNTS = {
    "pairs": "pairs",
    "ties_kept": "of them ties, with strength 0",
    "ties": "ties left out",
    "both_bad": "items that are both bad",
    "contradicting_kept": "of them items on which raters contradict each other, with strength 0",
    "contradicting": "items on which raters contradict each other left out",
    "skipped": "items with skips alone",
    "open": "items without a vote",
}
"""What becomes of every item, in words."""


@dataclass(frozen=True)
class ExportedPairs:
    """Hold the rows, and how many items became what."""

    rows: list[dict[str, Any]]
    counts: Counter[str] = field(default_factory=Counter)

    def line(self) -> str:
        """Describe the counts in one line."""
        return ", ".join(
            f"{self.counts[key]:,} {phrase}" for key, phrase in EXPORT_COUNTS.items() if self.counts[key]
        )


def export_pairs(
    study: Study, votes: Sequence[Vote], ties: Literal["drop", "keep"] = "drop"
) -> ExportedPairs:
    """Return the pairs of a review, in the order of its items.

    `preference_strength` is the mean strength of the winner's votes. `individual_preference` lists every vote by a
    number for its rater: negative for `chosen`, as HelpSteer3 writes it, so that the card knows the human ceiling.
    Where contradicting items are left out, every row says how many: the agreement on the others is no human ceiling.
    """
    counts: Counter[str] = Counter()
    by_item: dict[str, list[UnblindedVote]] = {}
    for vote in unblind(study, votes):
        if vote.task.kind == "vote":
            by_item.setdefault(vote.item.id, []).append(vote)
    numbers = {rater: number for number, rater in enumerate(study.tasks, start=1)}
    rows = []
    compared = _compared_items(study)
    for item in study.items.values():
        if item.id not in compared:
            continue
        item_votes = by_item.get(item.id, [])
        result, winner = _decide(item_votes)
        is_kept_tie = result in ("ties", "contradicting") and ties == "keep"
        if is_kept_tie:
            result, winner = f"{result}_kept", 0
        counts[result] += 1
        if winner is not None:
            counts["pairs"] += is_kept_tie
            rows.append(_pair_row(study, item_votes, winner, numbers, tie=is_kept_tie))
    if contradicting := counts["contradicting"]:
        rows = [row | {CONTRADICTIONS_LEFT_OUT: contradicting} for row in rows]
    return ExportedPairs(rows, counts)


def write_pairs(
    path: Path, exported: ExportedPairs, where: str, added: Sequence[dict[str, Any]] = ()
) -> None:
    """Write the rows as JSONL, those of `added` first. Raises UserError if no vote decides a pair."""
    if not exported.rows:
        raise UserError(
            f"no vote decides a pair ({exported.line()})",
            where=where,
            fix="use --ties keep, or start a larger review",
        )
    atomic.write_text(
        path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in [*added, *exported.rows])
    )


def _compared_items(study: Study) -> frozenset[str]:
    """Return the items that are compared, without those of the calibration alone."""
    return frozenset(
        task.item for rater_tasks in study.tasks.values() for task in rater_tasks if task.kind == "vote"
    )


def _decide(item_votes: Sequence[UnblindedVote]) -> tuple[str, int | None]:
    """Return what becomes of an item, and the index of the better text where there is one."""
    if not item_votes:
        return "open", None
    counted = [vote for vote in item_votes if vote.sign is not None]
    if not counted:
        return "skipped", None
    signs = [vote.sign or 0 for vote in counted]
    total = sum(signs)
    if 1 in signs and -1 in signs:
        return "contradicting", None
    if total:
        return "pairs", int(total > 0)
    return ("both_bad" if any(vote.outcome == "both_bad" for vote in counted) else "ties"), None


def _pair_row(
    study: Study, item_votes: Sequence[UnblindedVote], winner: int, numbers: dict[str, int], tie: bool
) -> dict[str, Any]:
    item, counted = item_votes[0].item, [vote for vote in item_votes if vote.score is not None]
    scores = [
        (vote.score or 0.0) * (-1 if winner == 1 else 1) + 0.0 for vote in counted
    ]  # negative for `chosen`
    winning = [-score for score in scores if score < 0]
    sides = {"chosen": winner, "rejected": 1 - winner}
    return {
        "id": item.prompt_id,
        "prompt": list(item.prompt),
        **{side: [{"role": "assistant", "content": item.texts[i]}] for side, i in sides.items()},
        "preference_strength": 0.0 if tie else sum(winning) / len(winning),
        **{f"{side}_policy": item.policies[i] for side, i in sides.items()},
        "sample": item.sample,
        "raters": len(counted),
        "individual_preference": [
            {"rater": numbers[vote.vote.rater], "score": score}
            for vote, score in zip(counted, scores, strict=True)
        ],
        "reasons": sorted({reason for vote in counted for reason in vote.vote.reasons}),
        "source": SOURCE,
        "study": study.hash,
    }
