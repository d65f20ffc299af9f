"""Combine several reward models into one score, and record their disagreement.

    mean             the members' mean
    min              the members' minimum
    mean_minus_sd    mean − k · sd

`sd` is the population standard deviation across members (0 when they agree). Members disagree on responses unlike
those they were trained on. The last two rules score such responses lower, which makes the reward harder to exploit.
Source: Coste et al. 2024, "Reward model ensembles help mitigate overoptimization" (arXiv:2310.02743), whose
uncertainty-weighted objective subtracts the variance; a standard deviation keeps the unit of the reward.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from harken.records import Rollout, Score
from harken.reward.learned import LearnedReward
from harken.reward.source import clip_score

Combine = Literal["mean", "min", "mean_minus_sd"]


class EnsembleReward:
    """Score responses by the members' combined score, and record their spread as `<name>_sd` with weight 0."""

    def __init__(
        self,
        name: str,
        members: Sequence[LearnedReward],
        combine: Combine = "mean",
        k: float = 1.0,
        weight: float = 1.0,
        clip: float | None = None,
    ) -> None:
        self.name, self.members, self.combine, self.k = name, list(members), combine, k
        self.weight, self.clip = weight, clip

    def score(self, rollouts: Sequence[Rollout]) -> list[tuple[Score, ...]]:
        """Score each rollout with every member. The members' own weights and clips are not used."""
        values = np.array([member.standardized_scores(rollouts) for member in self.members])
        combined, spread = combine_scores(values, self.combine, self.k), values.std(axis=0)
        return [
            (
                Score(self.name, clip_score(float(value), self.clip), self.weight),
                Score(f"{self.name}_sd", float(sd), 0.0),
            )
            for value, sd in zip(combined, spread, strict=True)
        ]


def combine_scores(values: np.ndarray, method: Combine, k: float) -> np.ndarray:
    """Combine scores [members, responses] into [responses] by one of the module's rules."""
    if method == "min":
        minimum: np.ndarray = values.min(axis=0)
        return minimum
    penalty = k * values.std(axis=0) if method == "mean_minus_sd" else 0.0
    mean: np.ndarray = values.mean(axis=0) - penalty
    return mean
