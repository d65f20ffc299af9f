"""Measure the spread of rewards and margins: constant, saturated, tied or skewed by the position of a response."""

from __future__ import annotations

import numpy as np

from harken.card.scored import ScoredPairs, Section
from harken.records import Preference

SATURATED_REWARD = 100.0
"""Magnitude of a raw reward from which it counts as saturated."""
SATURATED_GAP = 10.0
"""Gap from which σ(gap) counts as saturated: the label's gradient is below 5e-5."""


def spread_section(scored: ScoredPairs, repeatability: float) -> Section:
    """Compute mean and spread of the raw rewards, and the shares of saturated and of indistinguishable pairs.

    A pair is indistinguishable when its rewards differ by no more than the scorer's own `repeatability`.
    """
    rewards = scored.rewards.reshape(-1)
    gap = np.abs(scored.gap)
    label = scored.label
    first_is_preferred = [
        float(pair.chosen_first)
        for pair in scored.pairs
        if isinstance(pair, Preference) and pair.chosen_first is not None
    ]
    return {
        "mean": float(rewards.mean()),
        "std": float(rewards.std()),
        "chosen_mean": float(scored.rewards[:, 0].mean()),
        "rejected_mean": float(scored.rewards[:, 1].mean()),
        "low": float(rewards.min()),
        "high": float(rewards.max()),
        "gap_std": float(scored.gap.std()),
        "indistinguishable": float((gap <= repeatability).mean()),
        "saturated_rewards": float((np.abs(rewards) >= SATURATED_REWARD).mean()),
        "saturated_gaps": float((gap >= SATURATED_GAP).mean()),
        "ties": float((label == 0.5).mean()),
        "soft_labels": float(((label != 0.5) & (label > 0) & (label < 1)).mean()),
        "first_preferred": float(np.mean(first_is_preferred)) if first_is_preferred else None,
        "positions_known": len(first_is_preferred),
    }


def margin_section(scored: ScoredPairs) -> Section | None:
    """Compute mean, spread and quantiles of reward(preferred) − reward(other); None without decided pairs."""
    margins = scored.margin[scored.decided]
    if not len(margins):
        return None
    quantiles = np.quantile(margins, [0.05, 0.25, 0.5, 0.75, 0.95])
    names = ("q05", "q25", "median", "q75", "q95")
    return {
        "mean": float(margins.mean()),
        "std": float(margins.std()),
        **{name: float(value) for name, value in zip(names, quantiles, strict=True)},
    }
