"""How sampling may be asked for, and the shipped fake."""

from __future__ import annotations

import dataclasses
import math

import pytest

from harken.records import Message, Prompt
from harken.rollout.engine import Engine, Sampling, ScriptedEngine


def prompt(name: str) -> Prompt:
    return Prompt(name, (Message("user", f"question {name}"),))


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": 0},
        {"max_tokens": 1, "samples": 0},
        {"max_tokens": 1, "temperature": -0.1},
        {"max_tokens": 1, "temperature": math.nan},
        {"max_tokens": 1, "temperature": math.inf},
    ],
)
def test_impossible_sampling_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"at least 1|greedy"):
        Sampling(**wrong)  # type: ignore[arg-type]


def test_there_is_no_way_to_bend_the_distribution() -> None:
    """P5: temperature is the only knob; top-k, top-p and penalties do not exist."""
    names = {field.name for field in dataclasses.fields(Sampling)}
    assert names == {"max_tokens", "temperature", "seed", "samples"}


def test_scripted_responses_come_prompt_by_prompt() -> None:
    engine: Engine = ScriptedEngine({"a": ["one", "two"], "b": ["three"]})
    done: list[int] = []
    rollouts = engine.generate([prompt("b"), prompt("a")], Sampling(20, samples=3), "v7", "test", done.append)
    assert [(r.prompt.id, r.sample, r.text) for r in rollouts] == [
        ("b", 0, "three"),
        ("b", 1, "three"),
        ("b", 2, "three"),
        ("a", 0, "one"),
        ("a", 1, "two"),
        ("a", 2, "one"),
    ]
    assert {(r.stop, r.policy_version) for r in rollouts} == {("end_of_turn", "v7")}
    assert sum(done) == 6


def test_a_scripted_response_ends_with_its_end_token_and_fits() -> None:
    """P8: the end is an action; a response that is truncated has none, and its text no half letter."""
    engine = ScriptedEngine(lambda asked, sample: "hé")
    whole, truncated = (engine.generate([prompt("a")], Sampling(n), "v", "test")[0] for n in (4, 2))
    assert whole.response_tokens == (0x68, 0xC3, 0xA9, ScriptedEngine.END)
    assert whole.sampler_logprobs == (-1.0,) * 4
    assert (whole.text, whole.stop) == ("hé", "end_of_turn")
    assert (truncated.response_tokens, truncated.text, truncated.stop) == ((0x68, 0xC3), "h", "length")
    assert bytes(whole.prompt_tokens) == b"question a"


def test_a_prompt_without_a_script_is_an_error() -> None:
    with pytest.raises(KeyError, match="b"):
        ScriptedEngine({"a": ["one"]}).generate([prompt("b")], Sampling(4), "v", "test")
