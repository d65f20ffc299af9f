"""Penalties by hand, and the sum that a rollout's reward is."""

from __future__ import annotations

import pytest

from harken.config.ppo import PPOSettings
from harken.records import Message, Prompt, Rollout, Score, ScoredRollout
from harken.reward.rules import penalties
from harken.reward.source import score_all

PROMPT = Prompt("p", (Message("user", "hi"),))


def rollout(tokens: tuple[int, ...], stop: str = "end_of_turn") -> Rollout:
    return Rollout(PROMPT, 0, (1,), tokens, (-1.0,) * len(tokens), "text", stop, "v")  # type: ignore[arg-type]


def test_penalties_by_hand() -> None:
    """P20, S0-66, S0-67, S2-51: truncated −2; 0.1 a token; half of 4-grams repeated × 3."""
    settings = PPOSettings(missing_eos_penalty=2.0, length_penalty=0.1, repetition_penalty=3.0)
    loop = rollout((7, 7, 7, 7, 7), "length")  # two 4-grams, one of them new
    plain = rollout((1, 2, 3))
    scored = score_all(penalties(settings), [loop, plain])
    assert [s.reward for s in scored] == pytest.approx([-2.0 - 0.5 - 1.5, -0.3])
    assert [p.source for p in scored[0].scores] == ["missing_eos", "length", "repetition"]


def test_no_penalty_no_part() -> None:
    assert penalties(PPOSettings(missing_eos_penalty=0.0)) == []
    assert penalties(PPOSettings(truncated="mask")) == []
    assert penalties(PPOSettings(missing_eos_score=-1.0)) == []


def test_a_part_without_a_value_counts_nothing() -> None:
    scored = ScoredRollout(rollout((1,)), (Score("a", 2.0, 0.5), Score("b", None, 9.0)))
    assert scored.reward == 1.0
    with pytest.raises(ValueError, match="finite"):
        Score("a", float("nan"))


def test_a_source_that_skips_a_rollout_is_an_error() -> None:
    class Forgetful:
        name = "forgetful"

        def score(self, rollouts: object) -> list[Score]:
            return []

    with pytest.raises(ValueError, match="0 of 1"):
        score_all([Forgetful()], [rollout((1,))])
