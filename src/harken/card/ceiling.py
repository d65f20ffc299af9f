"""Estimate the human ceiling of accuracy: how often raters agree with one another on the same pairs."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np

from harken.card.scored import ScoredPairs, Section
from harken.maths.statistics.agreement import krippendorff_alpha, rater_ceiling
from harken.maths.statistics.intervals import clustered_jeffreys
from harken.records import Preference

MIN_ROWS = 10
"""Rows with two or more raters below which there is no ceiling, and of one rater below which there is no slice."""
MAX_RATERS = 24
"""Raters with the most pairs, which have a slice each."""


def ceiling_section(scored: ScoredPairs) -> Section | None:
    """Compute leave-one-rater-out agreement, Krippendorff's alpha, and the model's accuracy on them, also by rater.

    None where fewer than MIN_ROWS pairs carry the judgements of two or more raters.
    """
    rated = np.array(
        [isinstance(pair, Preference) and len(pair.raters) >= 2 for pair in scored.pairs], dtype=np.bool_
    )
    if rated.sum() < MIN_ROWS:
        return None
    chosen = scored.select(rated)
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
    for place, pair in enumerate(scored.pairs):
        for vote, voter in enumerate(pair.voters if isinstance(pair, Preference) else ()):
            if voter.name:
                places.setdefault(voter.name, []).append((place, vote))
    found: list[Section] = []
    for name in sorted(places, key=lambda name: -len(places[name]))[:MAX_RATERS]:
        labelled, own, rest = [], [], []
        for place, vote in places[name]:
            pair = scored.pairs[place]
            assert isinstance(pair, Preference)
            mine = pair.raters[vote]
            lean = float(np.sign(pair.raters).sum() - np.sign(mine))
            labelled.append(replace(pair, label=0.5 + float(np.sign(mine)) / 2))
            if mine and lean:
                own.append(int(mine > 0))
                rest.append(int(lean > 0))
        if len(labelled) < MIN_ROWS:
            continue
        rewards = scored.rewards[[place for place, _ in places[name]]]
        agrees = [int(a == b) for a, b in zip(own, rest, strict=True)]
        interval = clustered_jeffreys(agrees, [1] * len(agrees)) if agrees else None
        found.append(
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
    return found
