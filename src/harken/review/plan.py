"""Compute the size that a review needs, and what a given one can detect. No torch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from harken.config.review import ReviewConfig
from harken.maths.statistics.power import detectable_win_rate, prompts_for_win_rate
from harken.review.calibration import calibration_of
from harken.review.study import Study
from harken.review.votes import Vote, current_votes

EDGES = (0.55, 0.6, 0.65, 0.7, 0.75)
"""Win rates that the table of a plan lists."""
SECONDS_PER_VOTE = 40.0
"""Assumed time of one judgement, for the hours of a plan."""


def power_lines(config: ReviewConfig) -> list[str]:
    """Return the table of items and votes that several edges need, two-sided at 95 % with a power of 80 %."""
    lines = [
        "To detect a win rate among decided items (power 80 %, two-sided 95 %), one pair of policies:",
        f"  {'win rate':>8}  {'decided':>7}  {'items':>7}  {'votes':>7}  {'hours in all':>12}",
    ]
    for edge in sorted({*EDGES, config.edge}):
        decided = prompts_for_win_rate(edge)
        items = math.ceil(decided / (1 - config.tie_share))
        votes = votes_needed(config, items)
        hours = votes * SECONDS_PER_VOTE / 3600
        lines.append(f"  {edge:>8.1%}  {decided:>7,}  {items:>7,}  {votes:>7,}  {hours:>12.1f}")
    lines.append(
        f"  assumed: {config.tie_share:.0%} ties and skips, {SECONDS_PER_VOTE:.0f} s a vote; votes include "
        f"{config.overlap:.0%} overlap, {config.repeats:.0%} repeats, {config.gold:.0%} gold and the calibration"
    )
    return lines


def detectable_text(decided: int) -> str:
    """Say which win rate this number of decided items detects; a few do not even detect 100 %."""
    rate = detectable_win_rate(decided)
    items = f"{decided:,} decided item{'s' * (decided != 1)}"
    return (
        f"{items} detect a win rate of {rate:.1%}" if rate < 1 else f"{items}, too few to detect any win rate"
    )


def votes_needed(config: ReviewConfig, items: int) -> int:
    """Return the votes that all raters together give for this number of items."""
    overlap = config.overlap if len(config.raters) > 1 else 0.0
    judged = items + math.ceil(items * overlap)
    return round(judged * (1 + config.repeats + config.gold)) + config.calibration * len(config.raters)


def study_lines(study: Study, votes: Sequence[Vote] = ()) -> list[str]:
    """Return the contents of a study, what it can detect, and the progress of its raters."""
    kinds, counts = study.kinds(), study.counts
    lines = [
        f"{', '.join(study.policies)}: {counts['items']:,} items of {counts['candidates']:,} pairs of responses"
        + "".join(f", {count:,} left out with {reason}" for reason, count in counts["left_out"].items())
    ]
    voted = {task.item for rater_tasks in study.tasks.values() for task in rater_tasks if task.kind == "vote"}
    compared = Counter(study.items[item].policies for item in voted)
    for pair, count in sorted(compared.items()):
        decided = max(1, round(count * (1 - study.config.tie_share)))
        lines.append(f"  {pair[1]} against {pair[0]}: about {detectable_text(decided)}")
    twice = kinds["vote"] - counts["items"]
    lines.append(
        f"  {sum(kinds.values()):,} votes of {len(study.tasks)} raters: {kinds['vote']:,} on items ({twice:,} twice), "
        f"{kinds['repeat']:,} repeats, {kinds['gold']:,} gold, {kinds['calibration']:,} calibration"
    )
    gold = ", ".join(f"{count} from {source}" for source, count in counts["gold"].items())
    lines.append(f"  gold: {gold or 'none was found'}")
    if len(study.tasks) == 1:
        lines.append("  one rater: agreement cannot be measured, so the report will have no headline")
    if counts["names_model"]:
        lines.append(f"  items with a response that names a model or a policy: {counts['names_model']:,}")
    current = current_votes(votes)
    for rater, tasks in study.tasks.items():
        done = sum((rater, task.id) in current for task in tasks)
        lines.append(f"  {rater}: {done:,} of {len(tasks):,} votes")
        if votes:
            lines.append(f"    calibration of {calibration_of(study, votes, rater).line()}")
    return lines
