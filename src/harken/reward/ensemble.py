"""Several reward models as one, and how far they disagree.

    mean             the members' mean
    min              the least of them
    mean_minus_sd    mean − k · sd

`sd` is the population standard deviation across members (0 when they agree). Where no member has seen the like of
an answer they disagree, so the last two pay less there: a reward that is harder to exploit.
Source: Coste et al. 2024, "Reward model ensembles help mitigate overoptimization" (arXiv:2310.02743), whose
uncertainty-weighted objective subtracts the variance; a standard deviation keeps the unit of the reward.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from harken.records import Rollout, Score
from harken.reward.learned import LearnedReward
from harken.reward.source import clipped

Combine = Literal["mean", "min", "mean_minus_sd"]


class EnsembleReward:
    """The members' combined score, and beside it their spread as `<name>_sd` of weight 0."""

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
        """Every member reads every conversation; members' own weights and clips are not used."""
        values = np.array([member.values(rollouts) for member in self.members])
        together, spread = combined(values, self.combine, self.k), values.std(axis=0)
        return [
            (
                Score(self.name, clipped(float(value), self.clip), self.weight),
                Score(f"{self.name}_sd", float(sd), 0.0),
            )
            for value, sd in zip(together, spread, strict=True)
        ]


def combined(values: np.ndarray, how: Combine, k: float) -> np.ndarray:
    """[members, answers] → [answers], by the formula of the module."""
    if how == "min":
        least: np.ndarray = values.min(axis=0)
        return least
    penalty = k * values.std(axis=0) if how == "mean_minus_sd" else 0.0
    mean: np.ndarray = values.mean(axis=0) - penalty
    return mean
