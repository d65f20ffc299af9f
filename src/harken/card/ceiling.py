"""Estimate the human ceiling of accuracy: how often raters agree with one another on the same pairs."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from harken.card.scored import ScoredPairs, Section
from harken.maths.statistics.agreement import krippendorff_alpha, rater_ceiling
from harken.records import Preference

MIN_ROWS = 10
"""Rows with two or more raters below which there is no ceiling."""


def ceiling_section(scored: ScoredPairs) -> Section | None:
    """Compute leave-one-rater-out agreement, Krippendorff's alpha, and the model's accuracy on the same pairs.

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
    }
