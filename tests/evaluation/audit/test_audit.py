import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harken.config.audit import PUBLISHED, AuditSettings
from harken.evaluation.audit import (
    FLAG_MEANINGS,
    audit,
    audit_response,
    longest_copied_run,
    max_ngram_count,
    repetition,
    responses_by_flag,
    words,
)
from harken.maths.repetition import TrailingRepetition, find_trailing_repetition

QUIET = {"manual_review", "low_reward_useful"}
"""Queues that hold rows of any evaluation."""


def row(policy="PPO", reward=0.0, response="A short answer.", **changes):
    fields = {"prompt_id": "p0", "sample": 0, "prompt": "What is rain?", "stop": "end_of_turn"}
    return fields | {"policy": policy, "reward": reward, "response": response} | changes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It's 3 o'clock, isn't it?", ["it's", "3", "o'clock", "isn't", "it"]),
        ("snake_case & Ünïcode", ["snake_case", "ünïcode"]),
        ("雨が降る", ["雨", "が", "降", "る"]),
        ("GPT は model", ["gpt", "は", "model"]),
        ("model雨model", ["model", "雨", "model"]),
        ("비가 온다", ["비가", "온다"]),
        ("...", []),
    ],
)
def test_words(text, expected):
    assert words(text) == expected


def test_thai_is_counted_by_character():
    """S0-52: scripts without spaces are not under-detected."""
    assert len(words("ฝนตก")) == 4
    assert repetition("ฝนตกหนัก" * 10) > 0.8


def test_unspaced_scripts_are_as_repetitive_as_spaced_ones():
    """S0-52: the published word definition sees one long word here, and so no 4-gram at all."""
    assert repetition("今天天气很好。" * 12) > 0.8
    assert repetition("the rain falls hard again " * 12) > 0.8


@pytest.mark.parametrize(
    ("text", "fraction", "most"),
    [
        ("", 0.0, 0),
        ("one two three", 0.0, 0),
        ("one two three four", 0.0, 1),
        ("a b c d a b c d", 1 / 5, 2),  # abcd bcda cdab dabc abcd
        ("go " * 10, 6 / 7, 7),
    ],
)
def test_repeated_4grams(text, fraction, most):
    assert repetition(text) == pytest.approx(fraction)
    assert max_ngram_count(text) == most


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Well. " + "I am happy to help. " * 5, TrailingRepetition(" I am happy to help.", 5, 100)),
        ("!" * 40, TrailingRepetition("!", 40, 40)),
        ("哈" * 30 + "\n\n", TrailingRepetition("哈", 30, 30)),
        ("ha ha ha", None),  # too short to matter
        ("The end of a normal sentence, said once and only once.", None),
        ("I am happy to help. " * 2 + "I am done.", None),
        ("", None),
    ],
)
def test_loop_golden(text, found):
    """S0-54. Spaces at the end are no part of the text, so a unit starts with the space before it."""
    assert find_trailing_repetition(text) == found


def test_a_loop_truncated_in_the_middle_is_found():
    found = find_trailing_repetition("Once. " + "tick tock goes the clock, " * 6 + "tick tock goes")
    assert found and found.times == 6 and sorted(found.unit) == sorted("tick tock goes the clock, ")


def slow_loop(text, times, length):
    """The definition: the suffix u^k, k >= times, |u^k| >= length, that is longest; then the shortest u."""
    text = text.rstrip()
    best = (0, 0)
    for period in range(1, len(text) // times + 1):
        count = 1
        while text[-period * (count + 1) :][:period] == text[-period:] and period * (count + 1) <= len(text):
            count += 1
        covered = period * count
        if count >= times and covered >= length and covered > best[0]:
            best = (covered, period)
    return best


looping = st.builds(
    lambda before, unit, count, cut: before + unit * count + unit[:cut],
    st.text("ab", max_size=8), st.text("ab", min_size=1, max_size=9), st.integers(1, 5), st.integers(0, 8),
)  # fmt: skip


@given(st.text("ab ", max_size=40) | looping, st.integers(2, 4), st.integers(1, 12))
@settings(max_examples=400)
def test_loop_is_the_definition(text, times, length):
    found = find_trailing_repetition(text, times, length)
    covered, _ = slow_loop(text, times, length)
    assert (found.length if found else 0) == covered
    if found:
        assert text.rstrip().endswith(found.unit * found.times)
        assert found.times >= times and len(found.unit) * found.times == found.length


def test_loop_takes_linear_time():
    """A quadratic detector would need hours for these."""
    random.seed(0)
    hard = "a" * 200_000 + "b"
    assert find_trailing_repetition(hard) is None
    assert (
        find_trailing_repetition("".join(random.choice("ab") for _ in range(200_000)) + "xyz" * 20).length
        == 60
    )


def slow_run(left, right):
    return max(
        (n for n in range(len(left) + 1) for i in range(len(left) - n + 1)
         if any(left[i : i + n] == right[j : j + n] for j in range(len(right) - n + 1))),
        default=0,
    )  # fmt: skip


@given(st.lists(st.sampled_from("abc"), max_size=9), st.lists(st.sampled_from("abc"), max_size=9))
def test_copied_run_is_the_definition(left, right):
    assert longest_copied_run(" ".join(left), " ".join(right)) == slow_run(left, right)


def test_restatement_is_the_copied_share_of_the_response():
    """S0-55."""
    found = audit_response(
        row(prompt="Name three uses of salt in a kitchen.", response="Three uses of salt: many!")
    )
    assert found["copied_words"] == 4 and found["restatement"] == pytest.approx(4 / 5)


def test_an_empty_response_has_no_measure_above_zero():
    found = audit_response(row(response=" \n\u3000"))
    assert found["empty"] and found["repeated_4grams"] == 0 and found["restatement"] == 0


def test_cap_hit_is_what_the_sampler_said():
    """S0-47: never inferred from the length of the text."""
    assert audit_response(row(response="x", stop="length"))["cap_hit"]
    assert not audit_response(row(response="x " * 5000, stop="end_of_turn"))["cap_hit"]


LOOPING = "the same four words " * 8
LOOPED = {"repetition", "character_repetition", "loop"}


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (row(reward=2.1, response=LOOPING), {"reward_mismatch", "strong_win"} | LOOPED),
        (row(reward=2.0, response=LOOPING), LOOPED),
        (row(reward=2.1, response="Plain and clear."), {"qualified_win"}),
        (row(reward=2.1, response="Plain and clear.", stop="length"), {"cap_hit"}),
        (row(reward=2.0, response="Plain and clear."), set()),
        (row(reward=-5.0), set()),
        (row(reward=-5.1), {"strong_loss"}),
        (row(reward=0.0, response=" "), {"empty"}),
        (row(reward=0.0, prompt="a b c d e f g h i", response="a b c d e f g h"), {"restatement"}),
        (row(reward=0.0, prompt="a b c d e f g", response="a b c d e f g"), set()),
    ],
)
def test_flags_against_the_baseline(response, expected):
    """S0-53, S0-59, S0-60: margins 2.0 and 5.0 and the reward 2.0 are strict."""
    audited = audit([row("Base", 0.0), response], baseline="Base", thresholds=PUBLISHED)
    assert set(audited["p0", 0, "PPO"]["flags"]) - QUIET == expected - {"strong_win"}
    assert not {"qualified_win", "strong_loss"} & set(audited["p0", 0, "Base"]["flags"])


@pytest.mark.parametrize(("sft", "qualified"), [(1.4, True), (1.5, False), (9.0, False)])
def test_a_qualified_win_beats_every_other_policy_by_more_than_one(sft, qualified):
    audited = audit([row("Base", 0.0), row("SFT", sft), row("PPO", 2.5)], "Base", PUBLISHED)
    assert ("qualified_win" in audited["p0", 0, "PPO"]["flags"]) is qualified


def test_the_mismatch_queue_counts_one_4gram_said_five_times():
    """The second way into the reference audit's 36 rows: few repeats over all, one of them often."""
    message = " ".join(f"one two three four {' '.join(f'w{i}x{j}' for j in range(20))}" for i in range(5))
    response = row(reward=3.0, response=message)
    assert repetition(message) < 0.25 and max_ngram_count(message) == 5
    assert "reward_mismatch" in audit([row("Base"), response], "Base", PUBLISHED)["p0", 0, "PPO"]["flags"]


def test_thresholds_are_arguments():
    responses = [row("Base", 0.0), row(reward=1.0, response=LOOPING)]
    audited = audit(responses, "Base", AuditSettings(mismatch_reward=0.5))
    assert responses_by_flag(audited)["reward_mismatch"] == [("p0", 0, "PPO")]
    assert responses_by_flag(audit(responses, "Base", PUBLISHED))["reward_mismatch"] == []


def test_every_flag_has_a_meaning_and_a_queue():
    assert responses_by_flag({}) == {name: [] for name in FLAG_MEANINGS}
