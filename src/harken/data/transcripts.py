"""Dialogues written as text, as in HH-RLHF: "\\n\\nHuman: … \\n\\nAssistant: …"."""

from __future__ import annotations

import re

from harken.data.fields import RowError
from harken.records import Message, Role

HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"
_MARKER = re.compile(r"\n\n(Human|Assistant):")
_ROLES: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}


def is_transcript(text: str) -> bool:
    """Whether the text is a dialogue: opens with the human's turn, or ends where the assistant's begins."""
    return text.lstrip().startswith("Human:") or (HUMAN in text and text.rstrip().endswith(ASSISTANT))


def parse(text: str) -> tuple[Message, ...]:
    """The turns of a dialogue. White space around a turn is not part of it; a lead-in before the first is a
    system message; turns of one speaker in a row are one turn; a last "Assistant:" with nothing after it is
    no turn.
    """
    if text.lstrip().startswith(("Human:", "Assistant:")):
        text = "\n\n" + text.lstrip()
    lead, *rest = _MARKER.split(text)
    turns = [Message("system", lead.strip())] if lead.strip() else []
    for speaker, said in zip(rest[::2], rest[1::2], strict=True):
        role, content = _ROLES[speaker], said.strip()
        if turns and turns[-1].role == role:
            turns[-1] = Message(role, f"{turns[-1].content}\n\n{content}".strip())
        else:
            turns.append(Message(role, content))
    if turns and turns[-1] == Message("assistant", ""):
        turns.pop()
    return tuple(turns)


def split_last_response(text: str, field: str) -> tuple[tuple[Message, ...], str]:
    """A dialogue as the conversation and its last answer: everything after the last "Assistant:".

    Drops rows without an answer, and rows whose answer goes on to write the human's next turn.
    """
    before, marker, answer = text.rpartition(ASSISTANT)
    if not marker:
        raise RowError("no_response", field)
    if HUMAN in answer:
        raise RowError("turn_marker_in_response", field)
    return parse(before), answer.strip()
