"""The reward model as a source: same tokens where it can, text where it must, clipped before it is weighted."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from tiny import END, tiny_backbone, tiny_tokenizer
from tiny_rewards import answer

from harken.config import LoraSettings
from harken.data.chat import Renderer
from harken.errors import NonFinite, UserError
from harken.models.roles import RewardModel, ScalarHead
from harken.records import Message, Prompt, Rollout
from harken.reward.learned import LearnedReward

PROMPT = Prompt("p", (Message("user", "hello"),))


def model() -> RewardModel:
    backbone = tiny_backbone()
    backbone.add_adapter("reward", LoraSettings(rank=4), seed=0)
    return RewardModel(backbone, "reward", ScalarHead(backbone.hidden_size, 0.7, seed=1), 0.3, 2.0)


def answers(renderer: Renderer) -> list[Rollout]:
    prompt = tuple(renderer.encode_prompt(PROMPT.messages))
    found = []
    for text, ended in (("good", True), ("cut o", False), ("", True)):
        tokens = tuple(renderer.encode_response(text, ended))
        stop = "end_of_turn" if ended else "length"
        found.append(Rollout(PROMPT, 0, prompt, tokens, (-1.0,) * len(tokens), text, stop, "v"))  # type: ignore[arg-type]
    return found


def test_scores_are_standardised_then_clipped_then_weighted() -> None:
    """P14, P19, S2-33."""
    reward, renderer = model(), Renderer(tiny_tokenizer())
    rollouts = answers(renderer)
    raw = reward.raw_scores([[*r.prompt_tokens, *r.response_tokens] for r in rollouts], 1000)
    wanted = [(value - 0.3) * 2.0 for value in raw]
    got = LearnedReward(reward, renderer, weight=0.5).score(rollouts)
    assert [s.value for s in got] == pytest.approx(wanted, abs=1e-5)
    assert {s.weight for s in got} == {0.5}
    low, high = min(wanted), max(wanted)
    bound = (abs(low) + abs(high)) / 4
    clipped = LearnedReward(reward, renderer, clip=bound).score(rollouts)
    assert [s.value for s in clipped] == pytest.approx([max(-bound, min(bound, v)) for v in wanted], abs=1e-5)


def test_a_truncated_responses_score_may_be_replaced() -> None:
    """Property 20: `missing_eos_score` stands where the score stood, unclipped; ended responses keep theirs."""
    reward, renderer = model(), Renderer(tiny_tokenizer())
    rollouts = answers(renderer)
    plain = [s.value for s in LearnedReward(reward, renderer).score(rollouts)]
    got = [s.value for s in LearnedReward(reward, renderer, clip=1e6, truncated_score=-7.0).score(rollouts)]
    assert got == [plain[0], -7.0, plain[2]]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("keys", [{}, {"clip": 1.0}, {"truncated_score": -1.0}])
def test_a_non_finite_score_is_an_error_and_never_clipped(bad: float, keys: dict[str, float]) -> None:
    """Property 32: min and max make a number of NaN. Source, prompt and row are named."""
    reward, renderer = model(), Renderer(tiny_tokenizer())
    with torch.no_grad():
        reward.head.bias.fill_(bad)
    with pytest.raises(
        NonFinite, match=rf"reward reward_model, prompt p: the reward is {bad}\. Fix: check the response"
    ) as told:
        LearnedReward(reward, renderer, **keys).score(answers(renderer))  # type: ignore[arg-type]
    assert (told.value.quantity, told.value.row) == ("reward", 0)


def test_another_tokenizer_is_reached_through_text() -> None:
    """S1-15, S3-12: with another vocabulary the response is decoded and tokenised again; no end is added (P2)."""
    reward, renderer = model(), Renderer(tiny_tokenizer())
    rollouts = answers(renderer)
    same = LearnedReward(reward, renderer)
    other = copy.deepcopy(tiny_tokenizer())
    other.add_tokens(["hello"])
    foreign = Renderer(other)
    assert foreign.encode_prompt(PROMPT.messages) != renderer.encode_prompt(PROMPT.messages)
    bridged = LearnedReward(reward, foreign)
    from_foreign = answers(foreign)
    assert [s.value for s in bridged.score(from_foreign)] == pytest.approx(
        [s.value for s in same.score(rollouts)], abs=1e-5
    )
    assert from_foreign[1].response_tokens[-1] != END


def bridged(max_length: int | None) -> tuple[LearnedReward, Renderer]:
    """A reward model with the byte tokenizer, for a policy with another one."""
    other = copy.deepcopy(tiny_tokenizer())
    other.add_tokens(["hello"])
    foreign = Renderer(other)
    return LearnedReward(model(), foreign, max_length=max_length), foreign


def test_text_that_crosses_keeps_the_reward_models_length() -> None:
    """S0-33: the oldest turns go first and the response stays whole; the limit is met, not merely neared."""
    turns = (Message("user", "old" * 9), Message("assistant", "yes"), Message("user", "new"))
    rollout = answer("the answer", turns)
    own = Renderer(tiny_tokenizer())
    short, end = own.encode_prompt(turns[2:]), own.encode_response("the answer")
    for limit in (len(short) + len(end), len(own.encode_prompt(turns)) + len(end) - 1):
        assert bridged(limit)[0].tokenize(rollout) == [*short, *end]
    whole = [*own.encode_prompt(turns), *end]
    assert bridged(len(whole))[0].tokenize(rollout) == whole == bridged(None)[0].tokenize(rollout)


def test_a_long_last_turn_loses_its_beginning_and_a_response_nothing() -> None:
    own = Renderer(tiny_tokenizer())
    rollout = answer("the answer", "a long question", ended=False)
    end = own.encode_response("the answer", ended=False)
    limit = len(own.encode_prompt((Message("user", "tion"),))) + len(end)
    assert bridged(limit)[0].tokenize(rollout) == [*own.encode_prompt((Message("user", "tion"),)), *end]


def test_a_response_that_leaves_no_room_is_an_error_and_never_truncated() -> None:
    with pytest.raises(
        UserError, match=r"reward_model, prompt p1: the response takes 31 of the 40 tokens"
    ) as told:
        bridged(40)[0].score([answer("x" * 30)])
    assert "\n" not in str(told.value)


def test_a_template_that_refuses_names_the_prompt() -> None:
    """S3-12: what a template refuses (a system turn it refuses becomes part of the first user turn)."""
    reward, _ = bridged(None)
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.chat_template = (
        "{% if 'unsaid' in messages[0]['content'] %}{{ raise_exception('no such word') }}{% endif %}"
        + str(tokenizer.chat_template)
    )
    reward._own_renderer = Renderer(tokenizer)
    turns = (Message("user", "this is unsaid"),)
    with pytest.raises(UserError, match=r"reward_model, prompt p1: .*no such word"):
        reward.score([answer("a", turns)])
