"""A prompt in any of its shapes (plain text, dialogue text, messages) as the conversation to answer."""

from __future__ import annotations

from collections.abc import Sequence

from harken.data import fields, transcripts
from harken.data.fields import Drop, Row
from harken.records import Message

Conversation = tuple[Message, ...]

PROMPT_FIELDS = (
    "prompt",
    "context",
    "messages",
    "conversation",
    "conversations",
    "input",
    "instruction",
    "question",
)


def said_by_user(text: str) -> Conversation:
    """One user turn."""
    return (Message("user", text),)


def conversation(value: object, field: str) -> Conversation:
    """A prompt's value: a list of messages, dialogue text, or plain text, which is one user turn."""
    if isinstance(value, list):
        return fields.messages(value, field)
    text = fields.checked(value, field)
    return transcripts.parse(text) if transcripts.is_transcript(text) else said_by_user(text)


def instructed(row: Row) -> Conversation:
    """An instruction with the text it is about, if any, below it."""
    instruction = fields.text(row, "instruction")
    about = next(
        (found for name in ("context", "input") if (found := fields.text_or_blank(row, name)).strip()), ""
    )
    return said_by_user(f"{instruction}\n\n{about}" if about else instruction)


def prompt_of(row: Row) -> Conversation:
    """The conversation of a row that names its prompt in one of the usual ways."""
    if row.get("instruction") is not None:
        return instructed(row)
    name = fields.required(row, PROMPT_FIELDS)
    return conversation(row[name], name)


def in_context(row: Row, turns: Conversation) -> Conversation:
    """Put the row's `system` column and its `history` of (user, assistant) pairs before the turns that lack them."""
    system = row.get("system")
    history = row.get("history")
    before: list[Message] = []
    if isinstance(history, list) and len([turn for turn in turns if turn.role == "user"]) == 1:
        for pair in history:
            if not isinstance(pair, list) or len(pair) != 2:
                raise Drop("wrong_type", "history")
            before += [
                Message("user", fields.checked(pair[0], "history")),
                Message("assistant", fields.checked(pair[1], "history")),
            ]
    rest = [turn for turn in turns if turn.role != "system"]
    own = [turn for turn in turns if turn.role == "system"]
    if system is not None and not own and fields.checked(system, "system").strip():
        own = [Message("system", system)]
    return (*own, *before, *rest) if before or (own and len(own) + len(rest) != len(turns)) else turns


def open_conversation(turns: Sequence[Message]) -> tuple[Conversation, bool]:
    """The turns up to the last user turn or tool result, which waits for an answer, and whether assistant turns were
    cut off.

    Drops rows with no user turn there, or a blank one.
    """
    end = len(turns)
    while end and turns[end - 1].role == "assistant":
        end -= 1
    asked = [turn for turn in turns[:end] if turn.role == "user"]
    if not end or turns[end - 1].role == "system" or not asked or not asked[-1].content.strip():
        raise Drop("no_prompt")
    return tuple(turns[:end]), end < len(turns)


def last_answer(turns: Sequence[Message], field: str) -> tuple[Conversation, str]:
    """The last assistant turn, and the turns before it."""
    for i in range(len(turns) - 1, -1, -1):
        if turns[i].role == "assistant":
            if "tool_calls" in turns[i].to_dict() and not turns[i].content.strip():
                raise Drop("tool_call_response", field)
            return tuple(turns[:i]), turns[i].content
    raise Drop("no_response", field)


def same(left: Sequence[Message], right: Sequence[Message]) -> bool:
    """Whether two conversations say the same, but for white space around turns."""
    return [(m.role, m.content.strip(), m.extra) for m in left] == [
        (m.role, m.content.strip(), m.extra) for m in right
    ]
