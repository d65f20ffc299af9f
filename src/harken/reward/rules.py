"""Define the penalties: measured quantities of a rollout with a negative weight."""

from __future__ import annotations

from collections.abc import Sequence

from harken.config.ppo import PPOSettings
from harken.config.preference_training import OnlineDPOSettings
from harken.maths.repetition import repeated_ngram_fraction
from harken.records import Rollout, Score
from harken.reward.source import RewardSource


class MissingEos:
    """Measure truncation: 1 for a truncated response, 0 for one that ended."""

    name = "missing_eos"

    def __init__(self, penalty: float) -> None:
        self.penalty = penalty

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """Return 1 for responses with stop = "length", else 0, with weight −`penalty`."""
        return [Score(self.name, float(r.stop == "length"), -self.penalty) for r in rollouts]


class Length:
    """Measure the length in response tokens."""

    name = "length"

    def __init__(self, penalty: float) -> None:
        self.penalty = penalty

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """Return the response tokens of each rollout, with weight −`penalty`."""
        return [Score(self.name, float(len(r.response_tokens)), -self.penalty) for r in rollouts]


class Repetition:
    """Measure the share of repeated token 4-grams, in [0, 1]."""

    name = "repetition"

    def __init__(self, penalty: float) -> None:
        self.penalty = penalty

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """Return the share for each rollout, with weight −`penalty`."""
        return [
            Score(self.name, repeated_ngram_fraction(r.response_tokens, 4), -self.penalty) for r in rollouts
        ]


class Overlong:
    """Measure how far a response reaches into the last `buffer` tokens before `longest`: 0 to 1.

        max(0, (tokens - (longest - buffer)) / buffer)

    Source: Yu et al. 2025 (arXiv:2503.14476) eq. 13, where `longest` is the limit of generation.
    """

    name = "overlong"

    def __init__(self, longest: int, buffer: int, penalty: float) -> None:
        self.longest, self.buffer, self.penalty = longest, buffer, penalty

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """Return the measure for each rollout, with weight −`penalty`."""
        begins = self.longest - self.buffer
        over = [max(0, len(r.response_tokens) - begins) / self.buffer for r in rollouts]
        return [Score(self.name, share, -self.penalty) for share in over]


def penalties(settings: PPOSettings | OnlineDPOSettings) -> list[RewardSource]:
    """Return the penalties of PPO or online DPO that are above zero."""
    rules: list[RewardSource] = []
    replaced = settings.missing_eos_score is not None
    if settings.missing_eos_penalty > 0 and settings.truncated == "penalise" and not replaced:
        rules.append(MissingEos(settings.missing_eos_penalty))
    if settings.length_penalty > 0:
        rules.append(Length(settings.length_penalty))
    if settings.repetition_penalty > 0:
        rules.append(Repetition(settings.repetition_penalty))
    if settings.overlong is not None:
        rules.append(Overlong(settings.max_gen_len, settings.overlong.buffer, settings.overlong.penalty))
    return rules
