"""Rules by name: which prompts they apply to, and what they say of a response."""

from __future__ import annotations

import pytest
from tiny_rewards import answer

from harken.errors import UserError
from harken.reward.demo_gold import gold_score
from harken.reward.judges import JUDGES, JudgeReward, find_judges

LOOP = "the same four words " * 12


@pytest.mark.parametrize(
    ("text", "ended", "expected"),
    [
        ("A short reply.", True, 1.0),
        ("A short reply", False, 0.0),
        ("", True, 0.0),
        (" \n ?!", True, 0.0),
        (LOOP, True, 0.0),
        ("one two three four five one two three four five", True, 0.0),  # 2 of 7 4-grams stood before: 0.286
        ("one two three four five six one two three four", True, 1.0),  # 1 of 7: 0.143
    ],
)
def test_an_intact_response_ends_is_not_empty_and_does_not_repeat_itself(
    text: str, ended: bool, expected: float
) -> None:
    (score,) = JudgeReward("intact").score([answer(text, ended=ended)])
    assert score.value == expected


def test_the_demos_judge_scores_the_demos_prompts_alone() -> None:
    """On other prompts its number would mean nothing: it likes 6 to 32 words."""
    judge = JudgeReward("demo_gold")
    demo, other = answer("It is red.", details={"keywords": ["red"]}), answer("It is red.")
    message = judge.score([demo, other])
    assert [score.value for score in message] == [gold_score(demo.prompt, demo.text, demo.stop), None]
    assert message[0].value == pytest.approx(0.5)  # three words of six, all else right


def test_an_unknown_judge_is_refused_with_those_there_are() -> None:
    with pytest.raises(UserError, match=r"unknown judge 'gold'.*demo_gold, intact"):
        find_judges(["gold"])
    assert set(JUDGES) == {"demo_gold", "intact"}
