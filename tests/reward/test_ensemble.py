"""An ensemble by hand: mean, minimum, mean less k spreads; the spread beside it; members that share a base."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import pytest
from tiny_rewards import answer

from harken.records import Rollout
from harken.reward.ensemble import EnsembleReward
from harken.reward.learned import LearnedReward
from harken.reward.source import score_all


class Says:
    """A member that says given numbers."""

    def __init__(self, *values: float) -> None:
        self.said = values

    def standardized_scores(self, rollouts: Sequence[Rollout]) -> list[float]:
        return list(self.said[: len(rollouts)])


# Two responses, three members: they disagree about the first and agree about the second.
MEMBERS = cast(list[LearnedReward], [Says(1.0, 2.0), Says(2.0, 2.0), Says(6.0, 2.0)])
# mean 3, sd of (1, 2, 6) around 3 with divisor 3: sqrt((4 + 1 + 9) / 3)
SD = math.sqrt(14 / 3)


@pytest.mark.parametrize(
    ("combine", "k", "first"),
    [
        ("mean", 1.0, 3.0),
        ("min", 1.0, 1.0),
        ("mean_minus_sd", 1.0, 3 - SD),
        ("mean_minus_sd", 0.5, 3 - SD / 2),
    ],
)
def test_the_three_ways_by_hand(combine: str, k: float, first: float) -> None:
    """S2-50: the least, or a mean that pays for disagreement; where all agree the three are one."""
    ensemble = EnsembleReward("e", MEMBERS, combine, k, weight=0.5)  # type: ignore[arg-type]
    scored = score_all([ensemble], [answer("a"), answer("b")])
    part = scored[0].scores[0]
    assert (part.source, part.weight) == ("e", 0.5)
    assert part.value == pytest.approx(first)
    assert scored[1].scores[0].value == pytest.approx(2.0)
    assert scored[0].reward == pytest.approx(first / 2)


def test_the_spread_is_recorded_without_a_penalty() -> None:
    scored = score_all([EnsembleReward("e", MEMBERS)], [answer("a"), answer("b")])
    spreads = [row.scores[1] for row in scored]
    assert [(s.source, s.weight) for s in spreads] == [("e_sd", 0.0)] * 2
    assert [s.value for s in spreads] == pytest.approx([SD, 0.0])
    assert [row.reward for row in scored] == pytest.approx([3.0, 2.0])


def test_the_clip_holds_the_combined_score() -> None:
    """A member's extreme counts in full before the clip: 3 − 2 sd is below −1.3."""
    ensemble = EnsembleReward("e", MEMBERS, "mean_minus_sd", 2.0, clip=1.0)
    (score, spread), (agreed, _) = ensemble.score([answer("a"), answer("b")])
    assert (score.value, agreed.value) == (-1.0, 1.0)
    assert spread.value == pytest.approx(SD)
