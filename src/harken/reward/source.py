"""Score rollouts with several reward sources, whose weighted scores are summed to one reward per rollout."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from harken.errors import NonFinite
from harken.records import Rollout, Score, ScoredRollout


@runtime_checkable
class RewardSource(Protocol):
    """Define the interface of a reward source."""

    name: str

    def score(self, rollouts: Sequence[Rollout]) -> Sequence[Score | tuple[Score, ...]]:
        """Return each rollout's score, in order; or a tuple of that score and further measurements."""
        ...


def score_all(sources: Sequence[RewardSource], rollouts: Sequence[Rollout]) -> list[ScoredRollout]:
    """Score every rollout with every source. Raises ValueError when a source returns another number of scores."""
    columns = [source.score(rollouts) for source in sources]
    for source, column in zip(sources, columns, strict=True):
        if len(column) != len(rollouts):
            raise ValueError(
                f"reward source {source.name!r} scored {len(column)} of {len(rollouts)} rollouts"
            )
    return [
        ScoredRollout(rollout, tuple(score for column in columns for score in _as_tuple(column[i])))
        for i, rollout in enumerate(rollouts)
    ]


def require_finite(source: str, rollouts: Sequence[Rollout], values: Sequence[float]) -> Sequence[float]:
    """Return the values, one per rollout. Raises NonFinite, naming source and prompt, for NaN or infinity.

    Call it before `clip_score`, which would turn NaN and infinity into finite numbers.
    """
    for row, (rollout, value) in enumerate(zip(rollouts, values, strict=True)):
        if not math.isfinite(value):
            raise NonFinite(
                "reward",
                value,
                where=f"reward {source}, prompt {rollout.prompt.id}",
                fix="check the response it scored, and the weights and dtype of the model that scored it",
                row=row,
            )
    return values


def clip_score(value: float, clip: float | None) -> float:
    """Clip `value` to ±`clip`; None leaves it unchanged."""
    return value if clip is None else max(-clip, min(clip, value))


def _as_tuple(score: Score | tuple[Score, ...]) -> tuple[Score, ...]:
    return score if isinstance(score, tuple) else (score,)
