from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harken.data.fields import RowError
from harken.data.transcripts import is_transcript, parse_transcript, split_transcript
from harken.records import Message

turn_text = st.text("abc \n.", min_size=1).map(str.strip).filter(bool)


@given(st.lists(turn_text, min_size=1, max_size=6))
def test_written_transcripts_are_parsed_back(said: list[str]):
    roles = ["user" if i % 2 == 0 else "assistant" for i in range(len(said))]
    names = {"user": "Human", "assistant": "Assistant"}
    text = "".join(f"\n\n{names[r]}: {s}" for r, s in zip(roles, said, strict=True))
    assert parse_transcript(text) == tuple(Message(r, s) for r, s in zip(roles, said, strict=True))


def test_open_prompt_drops_the_empty_header():
    assert parse_transcript("\n\nHuman: hi\n\nAssistant:") == (Message("user", "hi"),)


def test_empty_turn_in_the_middle_is_kept_and_two_turns_of_one_speaker_are_joined():
    assert parse_transcript("\n\nHuman: a\n\nAssistant: \n\nHuman: b\n\nAssistant: c\n\nAssistant: d") == (
        Message("user", "a"),
        Message("assistant", ""),
        Message("user", "b"),
        Message("assistant", "c\n\nd"),
    )


def test_lead_in_is_a_system_message():
    assert parse_transcript("Be kind.\n\nHuman: hi\n\nAssistant:")[0] == Message("system", "Be kind.")


def test_the_response_is_all_after_the_last_marker():
    messages, response = split_transcript(
        "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: d\n\n1. e ", "chosen"
    )
    assert [m.content for m in messages] == ["a", "b", "c"] and response == "d\n\n1. e"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("\n\nHuman: a", "no_response"),
        ("\n\nHuman: a\n\nAssistant: b\n\nHuman: c", "turn_marker_in_response"),
    ],
)
def test_rows_without_a_clean_response_are_dropped(text: str, reason: str):
    with pytest.raises(RowError) as caught:
        split_transcript(text, "chosen")
    assert caught.value.reason == reason


@pytest.mark.parametrize("text", ["Tell me: Human: or robot?", "What?\n\nHuman: is", "assistant:", ""])
def test_plain_text_is_no_dialogue(text: str):
    assert not is_transcript(text)
