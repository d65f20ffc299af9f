"""Judges by name: functions of (prompt, answer, stop) that need no training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harken.errors import UserError
from harken.records import Prompt, Rollout, Score, Stop
from harken.reward.demo_gold import gold

Judge = Callable[[Prompt, str, Stop], float]

JUDGES: dict[str, Judge] = {"demo_gold": gold}


class JudgeReward:
    """A judge as a part of the reward."""

    def __init__(self, name: str, weight: float = 1.0) -> None:
        self.name, self.weight, self.judge = name, weight, find_judges([name])[name]

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """What the judge says of each answer."""
        return [Score(self.name, self.judge(r.prompt, r.text, r.stop), self.weight) for r in rollouts]


def find_judges(names: Sequence[str]) -> dict[str, Judge]:
    """The judges of these names. Raises UserError for an unknown one."""
    for name in names:
        if name not in JUDGES:
            raise UserError(
                f"unknown judge {name!r}", where="judges", mend=f"choose among {', '.join(sorted(JUDGES))}"
            )
    return {name: JUDGES[name] for name in names}
