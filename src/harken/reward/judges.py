"""Define rules that score a response without a model, for judges and for reward parts of type `rule`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harken.errors import UserError
from harken.maths.repetition import REPETITIVE, repeated_ngram_fraction
from harken.records import Prompt, Rollout, Score, StopReason
from harken.reward.demo_gold import gold_score, normalised_words

Judge = Callable[[Prompt, str, StopReason], float | None]
"""Return the score, or None where the rule does not apply to the prompt."""


def demo_gold(prompt: Prompt, text: str, stop: StopReason) -> float | None:
    """Score a response to a demo prompt by the rule that made the demo's preferences; None for any other prompt.

    The rule matches keywords that only the demo's prompts have, and prefers 6 to 32 words: on other prompts its score
    would be meaningless.
    """
    return gold_score(prompt, text, stop) if "keywords" in prompt.details else None


def intact(prompt: Prompt, text: str, stop: StopReason) -> float:
    """Return 1.0 for a response that ended by itself, has words and does not repeat itself, else 0.0."""
    words = normalised_words(text)
    return float(stop == "end_of_turn" and bool(words) and repeated_ngram_fraction(words, 4) <= REPETITIVE)


JUDGES: dict[str, Judge] = {"demo_gold": demo_gold, "intact": intact}

GUARDS = frozenset({"intact"})
"""Rules that detect degenerate responses and do not measure quality: only a falling score is a problem."""


class JudgeReward:
    """Score responses by a rule, as a part of the reward or as a judge."""

    def __init__(self, name: str, weight: float = 1.0) -> None:
        self.name, self.weight, self.judge = name, weight, find_judges([name])[name]

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """Return the rule's score of each response."""
        return [Score(self.name, self.judge(r.prompt, r.text, r.stop), self.weight) for r in rollouts]


def find_judges(names: Sequence[str]) -> dict[str, Judge]:
    """Return the rules of these names. Raises UserError for an unknown one."""
    for name in names:
        if name not in JUDGES:
            raise UserError(
                f"unknown judge {name!r}: it is neither a rule nor a folder here",
                where="judges",
                fix=f"name a reward model's folder, my_reward.py:score, or a rule: {', '.join(sorted(JUDGES))}",
            )
    return {name: JUDGES[name] for name in names}
