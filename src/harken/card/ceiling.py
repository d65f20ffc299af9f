"""Estimate the human ceiling of accuracy: how often raters agree with one another on the same pairs."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np

from harken.card.scored import ScoredPairs, Section
from harken.maths.statistics.agreement import krippendorff_alpha, rater_ceiling
from harken.maths.statistics.intervals import clustered_jeffreys
from harken.records import Preference

MIN_ROWS = 10
"""Rows with two or more raters below which no ceiling is computed; rows of one rater below which no slice is."""
MAX_RATERS = 24
"""Number of raters with a slice each, those with the most pairs."""


def ceiling_section(scored: ScoredPairs) -> Section | None:
    """Compute leave-one-rater-out agreement, Krippendorff's alpha, and the model's accuracy on them, also by rater.

    None where fewer than MIN_ROWS pairs carry the judgements of two or more raters.
    """
    has_raters = np.array(
        [isinstance(pair, Preference) and len(pair.raters) >= 2 for pair in scored.pairs], dtype=np.bool_
    )
    if has_raters.sum() < MIN_ROWS:
        return None
    chosen = scored.select(has_raters)
    raters = [pair.raters for pair in chosen.pairs if isinstance(pair, Preference)]
    ceiling = rater_ceiling(raters)
    return {
        "rows": len(raters),
        "raters": asdict(ceiling) if ceiling else None,
        "alpha": krippendorff_alpha(raters),
        "model": chosen.accuracy(),
        "by_rater": _by_rater(chosen),
    }


def _by_rater(scored: ScoredPairs) -> list[Section]:
    """Compute, for each named rater, the model's accuracy on the pairs by that rater's own votes, ties left out.

    `others`: how often the rater agrees with the majority of the other raters, on the rows where both decide.
    """
    places: dict[str, list[tuple[int, int]]] = {}
    for index, pair in enumerate(scored.pairs):
        for vote, rater in enumerate(pair.voters if isinstance(pair, Preference) else ()):
            if rater.name:
                places.setdefault(rater.name, []).append((index, vote))
    sections: list[Section] = []
    for name in sorted(places, key=lambda name: -len(places[name]))[:MAX_RATERS]:
        labelled, own_votes, majority_votes = [], [], []
        for index, vote in places[name]:
            pair = scored.pairs[index]
            assert isinstance(pair, Preference)
            own_vote = pair.raters[vote]
            others_sum = float(np.sign(pair.raters).sum() - np.sign(own_vote))
            labelled.append(replace(pair, label=0.5 + float(np.sign(own_vote)) / 2))
            if own_vote and others_sum:
                own_votes.append(int(own_vote > 0))
                majority_votes.append(int(others_sum > 0))
        if len(labelled) < MIN_ROWS:
            continue
        rewards = scored.rewards[[index for index, _ in places[name]]]
        agrees = [
            int(vote_is_positive == majority_is_positive)
            for vote_is_positive, majority_is_positive in zip(own_votes, majority_votes, strict=True)
        ]
        interval = clustered_jeffreys(agrees, [1] * len(agrees)) if agrees else None
        sections.append(
            {
                "rater": name,
                "votes": len(labelled),
                "model": ScoredPairs(labelled, rewards).accuracy(),
                "others": {
                    "share": interval.mean,
                    "low": interval.low,
                    "high": interval.high,
                    "rows": len(agrees),
                }
                if interval
                else None,
            }
        )
    return sections
