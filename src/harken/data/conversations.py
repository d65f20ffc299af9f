"""Parse a prompt (plain text, dialogue text or messages) as a conversation to respond to."""

from __future__ import annotations

from collections.abc import Sequence

from harken.data import fields, transcripts
from harken.data.fields import Row, RowError
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


def user_turn(text: str) -> Conversation:
    """Return a conversation of one user turn."""
    return (Message("user", text),)


def parse_conversation(value: object, field: str) -> Conversation:
    """Parse a prompt's value: a list of messages, dialogue text, or plain text, which becomes one user turn."""
    if isinstance(value, list):
        return fields.parse_messages(value, field)
    text = fields.require_text(value, field)
    return transcripts.parse_transcript(text) if transcripts.is_transcript(text) else user_turn(text)


def from_instruction(row: Row) -> Conversation:
    """Parse an instruction, with the row's context or input below it."""
    instruction = fields.first_text(row, "instruction")
    context = next(
        (text for name in ("context", "input") if (text := fields.optional_text(row, name)).strip()), ""
    )
    return user_turn(f"{instruction}\n\n{context}" if context else instruction)


def parse_prompt(row: Row) -> Conversation:
    """Parse the conversation of a row that has its prompt in one of the usual columns."""
    if row.get("instruction") is not None:
        return from_instruction(row)
    name = fields.require_any(row, PROMPT_FIELDS)
    return parse_conversation(row[name], name)


def add_system_and_history(row: Row, turns: Conversation) -> Conversation:
    """Put the row's `system` column and its `history` of (user, assistant) pairs before the turns that lack them."""
    system = row.get("system")
    history = row.get("history")
    earlier_turns: list[Message] = []
    if isinstance(history, list) and len([turn for turn in turns if turn.role == "user"]) == 1:
        for pair in history:
            if not isinstance(pair, list) or len(pair) != 2:
                raise RowError("wrong_type", "history")
            earlier_turns += [
                Message("user", fields.require_text(pair[0], "history")),
                Message("assistant", fields.require_text(pair[1], "history")),
            ]
    remaining = [turn for turn in turns if turn.role != "system"]
    system_turns = [turn for turn in turns if turn.role == "system"]
    if system is not None and not system_turns and fields.require_text(system, "system").strip():
        system_turns = [Message("system", system)]
    return (
        (*system_turns, *earlier_turns, *remaining)
        if earlier_turns or (system_turns and len(system_turns) + len(remaining) != len(turns))
        else turns
    )


def drop_trailing_responses(turns: Sequence[Message]) -> tuple[Conversation, bool]:
    """Return the turns up to the last user turn or tool result, and whether later assistant turns were dropped.

    Raises RowError for a conversation without a user turn, or with a blank one at its end.
    """
    end = len(turns)
    while end and turns[end - 1].role == "assistant":
        end -= 1
    user_turns = [turn for turn in turns[:end] if turn.role == "user"]
    if not end or turns[end - 1].role == "system" or not user_turns or not user_turns[-1].content.strip():
        raise RowError("no_prompt")
    return tuple(turns[:end]), end < len(turns)


def split_last_response(turns: Sequence[Message], field: str) -> tuple[Conversation, str]:
    """Split a conversation into the turns before the last assistant turn, and that turn's text."""
    for i in range(len(turns) - 1, -1, -1):
        if turns[i].role == "assistant":
            if "tool_calls" in turns[i].to_dict() and not turns[i].content.strip():
                raise RowError("tool_call_response", field)
            return tuple(turns[:i]), turns[i].content
    raise RowError("no_response", field)


def is_same_conversation(left: Sequence[Message], right: Sequence[Message]) -> bool:
    """Return whether two conversations are equal, apart from white space around turns."""
    return [(m.role, m.content.strip(), m.extra) for m in left] == [
        (m.role, m.content.strip(), m.extra) for m in right
    ]
