# ruff: noqa: E501  cases are one a line

"""Measures of one response: repeated characters and items, empty texts, length, evidence."""

import pytest

from harken.config.audit import AuditSettings
from harken.evaluation.audit import FLAG_MEANINGS, KINDS, QUEUES, audit
from harken.evaluation.audit.repeated_items import repeated_item_fraction
from harken.evaluation.audit.response import character_repetition, is_empty


def row(policy="PPO", response="A short answer.", **changes):
    fields = {"prompt_id": "p0", "sample": 0, "prompt": "What is rain?", "stop": "end_of_turn", "reward": 0.0}
    return fields | {"policy": policy, "response": response} | changes


def flags_of(response, **changes):
    return set(audit([row(response=response, **changes)], "Base")["p0", 0, "PPO"]["flags"]) & set(KINDS)


@pytest.mark.parametrize(
    ("text", "share"),
    [("", 0.0), ("ha" * 31, 0.0), ("ha" * 50, 1 - 2 / 85), ("z " * 100, 1 - 1 / 85), ("".join(map(chr, range(200, 300))), 0.0)],
)  # fmt: skip
def test_repeated_characters_by_hand(text, share):
    assert character_repetition(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["哈哈大笑" * 30, "ฝนตกหนัก" * 30, "ha" * 90, "🙂" * 80, "=-" * 60])
def test_characters_repeat_in_any_script(text):
    assert "character_repetition" in flags_of(f"Well: {text} and that is all.")


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("1. Buy milk\n2. Call Ann\n3. Buy milk\n4. Sing songs", 1 / 4),
        ("- Buy milk\n- buy MILK.\n- Buy, milk!\n- Buy milk 2", 3 / 4),
        ("1. Buy milk\n2. Buy milk\n3. Buy milk", 0.0),  # fewer than four items
        ("- 1\n- 1\n- 1\n- 1\n- 1", 0.0),  # numbers are no items
        ("No list at all.", 0.0),
        ("1. 买牛奶\n2. 打电话\n3. 买牛奶\n4. 唱歌曲", 1 / 4),
    ],
)
def test_repeated_items_by_hand(text, share):
    assert repeated_item_fraction(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["", " \n", "\u200b", "\ufeff\u00a0", "\u3000", "\u00ad", "\u2800"])
def test_nothing_visible_is_empty(text):
    assert is_empty(text) and flags_of(text) == {"empty"}


@pytest.mark.parametrize("text", ["x", "?", "👍", "。"])
def test_a_single_mark_is_not_empty(text):
    assert not is_empty(text)


def test_a_rule_at_the_end_is_no_loop():
    assert "loop" not in flags_of("Notes:\n" + "-" * 60) and "loop" in flags_of("Notes:\n" + "-" * 300)


def ratio_flags(words, others, **thresholds):
    rows = [row(response="w " * words), *(row(f"other{i}", "w " * n) for i, n in enumerate(others))]
    found = audit(rows, "Base", AuditSettings(**thresholds))["p0", 0, "PPO"]
    return found["length_ratio"], "overlong" in found["flags"]


@pytest.mark.parametrize(
    ("words", "others", "ratio", "flagged"),
    [
        (301, [100, 100], 3.01, True),
        (300, [100, 100], 3.0, False),
        (301, [50, 150], 3.01, True),  # the median of two
        (149, [1], 149 / 30, False),  # fewer than 150 words
        (150, [1], 5.0, True),  # one word counts as 30
        (900, [], None, False),
    ],
)
def test_overlong_against_the_other_policies(words, others, ratio, flagged):
    found, holds = ratio_flags(words, others)
    assert (found is None if ratio is None else found == pytest.approx(ratio)) and holds is flagged


def test_thresholds_of_length_are_settings():
    assert ratio_flags(301, [100], overlong_ratio=4.0)[1] is False
    assert ratio_flags(90, [20], overlong_ratio=2.0, overlong_words=80)[1] is True


def test_every_flag_has_evidence():
    text = "Great question! It rains.</s> " + "I am sure of it. " * 12
    found = audit([row(response=text, stop="length", reward=9.0), row("Base", reward=0.0)], "Base")[
        "p0", 0, "PPO"
    ]
    assert (
        set(found["evidence"])
        == set(found["flags"])
        >= {"boilerplate", "template_leakage", "loop", "cap_hit"}
    )
    assert (
        found["evidence"]["template_leakage"] == "</s>"
        and found["evidence"]["boilerplate"] == "great question"
    )
    assert all(len(text) <= 120 for text in found["evidence"].values())


def test_flags_are_the_kinds_and_the_queues():
    assert set(FLAG_MEANINGS) == {*KINDS, *QUEUES}
    assert len(KINDS) == 20 and len(QUEUES) == 7


def test_rows_without_language_and_messages_are_audited():
    """Responses that were made elsewhere have no stop reason and no token count."""
    found = audit([row(stop=None, response_tokens=None)], "Base")["p0", 0, "PPO"]
    assert found["cap_hit"] is False and found["flags"] == ["manual_review"]


def test_the_conversation_is_the_context():
    messages = '[{"role": "user", "content": "See https://rain.org/a"}, {"role": "user", "content": "And?"}]'
    assert "unverified_reference" not in flags_of(
        "It is at https://rain.org/a then.", prompt="And?", messages=messages
    )
    assert "unverified_reference" in flags_of("It is at https://rain.org/a then.", prompt="And?")
