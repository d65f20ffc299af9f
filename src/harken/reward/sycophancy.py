"""Score responses against sycophancy: reward − penalty × P(faulty) + bonus × P(honest), by any detector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from harken.records import Prompt, Rollout, Score
from harken.reward.source import RewardSource, require_finite
from harken.sycophancy.detector import Detector, require_known


class SycophancyReward:
    """Score responses by a detector, as a penalty (weight −`weight`) or as a bonus.

    With the rules a response that states neither answer gets neither.
    """

    def __init__(
        self,
        name: str,
        detector: Detector,
        kind: Literal["sycophancy_penalty", "honesty_bonus"],
        weight: float,
    ) -> None:
        self.name, self.detector, self.kind = name, detector, kind
        self.weight = -weight if kind == "sycophancy_penalty" else weight

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """Return the probability of faulty (penalty) or honest (bonus).

        Raises as `require_details` does, and NonFinite, naming the prompt, for a probability that is NaN.
        """
        self.require_details([rollout.prompt for rollout in rollouts])
        verdicts = self.detector.score(rollouts)
        values = [v.faulty if self.kind == "sycophancy_penalty" else v.honest for v in verdicts]
        return [Score(self.name, value, self.weight) for value in require_finite(self.name, rollouts, values)]

    def require_details(self, prompts: Sequence[Prompt]) -> None:
        """Raise UserError for a prompt without the truth, claim or reference that the detector reads."""
        require_known(self.detector, prompts, f"training.rewards, {self.name}")


def check_prompt_details(sources: Sequence[RewardSource], prompts: Sequence[Prompt]) -> None:
    """Check the prompts of a run before the first response: raises as `SycophancyReward.require_details`."""
    for source in sources:
        if isinstance(source, SycophancyReward):
            source.require_details(prompts)
