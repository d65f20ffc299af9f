"""Where reward comes from: several sources, each with a name and a weight, summed into one number a rollout."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from harken.errors import NonFinite
from harken.records import Rollout, Score, ScoredRollout


@runtime_checkable
class RewardSource(Protocol):
    """Anything that scores finished answers."""

    name: str

    def score(self, rollouts: Sequence[Rollout]) -> Sequence[Score | tuple[Score, ...]]:
        """One part of the reward for each rollout, in order; or that part and what else was measured, in a tuple."""
        ...


def score_all(sources: Sequence[RewardSource], rollouts: Sequence[Rollout]) -> list[ScoredRollout]:
    """Every source's part for every rollout. Raises ValueError when a source returns another number of scores."""
    columns = [source.score(rollouts) for source in sources]
    for source, column in zip(sources, columns, strict=True):
        if len(column) != len(rollouts):
            raise ValueError(
                f"reward source {source.name!r} scored {len(column)} of {len(rollouts)} rollouts"
            )
    return [
        ScoredRollout(rollout, tuple(score for column in columns for score in _scores(column[i])))
        for i, rollout in enumerate(rollouts)
    ]


def finite(source: str, rollouts: Sequence[Rollout], values: Sequence[float]) -> Sequence[float]:
    """The values, one a rollout. Raises NonFinite, naming source and prompt, for one that is NaN or infinite.

    To be asked before `clipped`: clipping would make a number of it.
    """
    for row, (rollout, value) in enumerate(zip(rollouts, values, strict=True)):
        if not math.isfinite(value):
            raise NonFinite(
                "reward",
                value,
                where=f"reward {source}, prompt {rollout.prompt.id}",
                fix="look at what it scored: the answer, the weights of the model that scores, their dtype",
                row=row,
            )
    return values


def clipped(value: float, clip: float | None) -> float:
    """`value` held within ± clip; None: as it is."""
    return value if clip is None else max(-clip, min(clip, value))


def _scores(said: Score | tuple[Score, ...]) -> tuple[Score, ...]:
    return said if isinstance(said, tuple) else (said,)
