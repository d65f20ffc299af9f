"""Parse layouts with a prompt and at most one response."""

from __future__ import annotations

from collections.abc import Mapping

from harken.data import conversations, fields, transcripts
from harken.data.conversations import Conversation
from harken.data.fields import Row, RowError

_MESSAGES = ("messages", "conversations", "conversation")
_RESPONSES = ("response", "completion", "answer", "output")


def prompt_response_prompt(row: Row) -> Conversation:
    """Parse prompt, instruction (+ context) or question."""
    return conversations.parse_prompt(row)


def prompt_response(row: Row) -> tuple[Conversation, str]:
    """Parse the prompt and its response, completion, answer or output: text, or messages that follow the prompt."""
    prompt, name = conversations.parse_prompt(row), fields.require_any(row, _RESPONSES)
    if isinstance(row[name], list):
        return conversations.split_last_response([*prompt, *fields.parse_messages(row[name], name)], name)
    return prompt, fields.require_text(row[name], name)


def has_messages(row: Row) -> bool:
    """Return whether a field holds a list of messages."""
    return any(isinstance(row.get(name), list) for name in _MESSAGES)


def messages_prompt(row: Row) -> Conversation:
    """Parse the turns up to the last user turn, without a final response."""
    return conversations.drop_trailing_responses(_turns(row))[0]


def messages(row: Row) -> tuple[Conversation, str]:
    """Parse the last assistant turn and the turns before it."""
    return conversations.split_last_response(_turns(row), "messages")


def _turns(row: Row) -> Conversation:
    name = fields.require_any(row, _MESSAGES)
    return fields.parse_messages(row[name], name)


def instances_prompt(row: Row) -> Conversation:
    """Parse the instruction and the first instance's input."""
    return conversations.from_instruction(
        {"instruction": row.get("instruction"), "input": _instance(row).get("input")}
    )


def instances(row: Row) -> tuple[Conversation, str]:
    """Parse the instruction with the first instance's input and output."""
    return instances_prompt(row), fields.first_text(_instance(row), "output")


def _instance(row: Row) -> Row:
    values = fields.first_value(row, "instances")
    if not isinstance(values, list) or not values or not isinstance(values[0], Mapping):
        raise RowError("wrong_type", "instances")
    return values[0]


def turns_prompt(row: Row) -> Conversation:
    """Parse the first of several user turns; later ones refer to the response to it."""
    turns = fields.first_value(row, "turns")
    if not isinstance(turns, list) or not turns:
        raise RowError("wrong_type", "turns")
    return conversations.user_turn(fields.require_text(turns[0], "turns"))


def text(row: Row) -> tuple[Conversation, str]:
    """Split a text at its first newline into prompt and response, a dialogue at its last turn."""
    content = fields.first_text(row, "text")
    if transcripts.is_transcript(content):
        return transcripts.split_transcript(content, "text")
    prompt, newline, response = content.strip().partition("\n")
    if not newline:
        raise RowError("no_newline", "text")
    return conversations.user_turn(prompt.strip()), response.strip()


def text_prompt(row: Row) -> Conversation:
    """Parse the prompt of a {text} row."""
    return text(row)[0]
