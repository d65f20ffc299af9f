"""Layouts with at most one answer: a prompt, and maybe what a person replied."""

from __future__ import annotations

from collections.abc import Mapping

from harken.data import conversations, fields, transcripts
from harken.data.conversations import Conversation
from harken.data.fields import Drop, Row

_MESSAGES = ("messages", "conversations", "conversation")
_ANSWERS = ("response", "completion", "answer", "output")


def prompted_prompt(row: Row) -> Conversation:
    """prompt, instruction (+ context) or question."""
    return conversations.prompt_of(row)


def prompted(row: Row) -> tuple[Conversation, str]:
    """The prompt and its response, completion, answer or output."""
    return conversations.prompt_of(row), fields.text(row, *_ANSWERS)


def has_messages(row: Row) -> bool:
    """Whether a field holds a list of messages."""
    return any(isinstance(row.get(name), list) for name in _MESSAGES)


def messages_prompt(row: Row) -> Conversation:
    """Everything up to the last user turn: a final answer is left out."""
    return conversations.open_conversation(_turns(row))[0]


def messages(row: Row) -> tuple[Conversation, str]:
    """The last assistant turn and what came before it."""
    return conversations.last_answer(_turns(row), "messages")


def _turns(row: Row) -> Conversation:
    name = fields.required(row, _MESSAGES)
    return fields.messages(row[name], name)


def instances_prompt(row: Row) -> Conversation:
    """The instruction and the first instance's input."""
    return conversations.instructed(
        {"instruction": row.get("instruction"), "input": _instance(row).get("input")}
    )


def instances(row: Row) -> tuple[Conversation, str]:
    """The same, with the first instance's output."""
    return instances_prompt(row), fields.text(_instance(row), "output")


def _instance(row: Row) -> Row:
    found = fields.value(row, "instances")
    if not isinstance(found, list) or not found or not isinstance(found[0], Mapping):
        raise Drop("wrong_type", "instances")
    return found[0]


def first_turn(row: Row) -> Conversation:
    """The first of several user turns: the later ones ask about the answer to it."""
    turns = fields.value(row, "turns")
    if not isinstance(turns, list) or not turns:
        raise Drop("wrong_type", "turns")
    return conversations.said_by_user(fields.checked(turns[0], "turns"))


def lines(row: Row) -> tuple[Conversation, str]:
    """The first newline parts the prompt from the answer; a dialogue parts at its last turn."""
    whole = fields.text(row, "text")
    if transcripts.is_transcript(whole):
        return transcripts.split_answer(whole, "text")
    prompt, newline, answer = whole.strip().partition("\n")
    if not newline:
        raise Drop("no_newline", "text")
    return conversations.said_by_user(prompt.strip()), answer.strip()


def first_line(row: Row) -> Conversation:
    """The prompt of a {text} row."""
    return lines(row)[0]
