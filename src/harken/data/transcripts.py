"""Parse dialogues written as text, as in HH-RLHF: "\\n\\nHuman: … \\n\\nAssistant: …"."""

from __future__ import annotations

import re

from harken.data.fields import RowError
from harken.records import Message, Role

HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"
_MARKER = re.compile(r"\n\n(Human|Assistant):")
_ROLES: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}


def is_transcript(text: str) -> bool:
    """Return whether a text is a dialogue: it begins with the human's turn, or ends where the assistant's begins."""
    return text.lstrip().startswith("Human:") or (HUMAN in text and text.rstrip().endswith(ASSISTANT))


def parse_transcript(text: str) -> tuple[Message, ...]:
    """Parse the turns of a dialogue.

    White space around turns is removed. Text before the first turn is a system message. Consecutive turns of one
    speaker are merged. A final "Assistant:" without text is ignored.
    """
    if text.lstrip().startswith(("Human:", "Assistant:")):
        text = "\n\n" + text.lstrip()
    lead, *parts = _MARKER.split(text)
    turns = [Message("system", lead.strip())] if lead.strip() else []
    for speaker, turn in zip(parts[::2], parts[1::2], strict=True):
        role, content = _ROLES[speaker], turn.strip()
        if turns and turns[-1].role == role:
            turns[-1] = Message(role, f"{turns[-1].content}\n\n{content}".strip())
        else:
            turns.append(Message(role, content))
    if turns and turns[-1] == Message("assistant", ""):
        turns.pop()
    return tuple(turns)


def split_transcript(text: str, field: str) -> tuple[tuple[Message, ...], str]:
    """Split a dialogue into the conversation and its last response: everything after the last "Assistant:".

    Raises RowError for a dialogue without a response, and for a response that contains the human's next turn.
    """
    dialogue, marker, response = text.rpartition(ASSISTANT)
    if not marker:
        raise RowError("no_response", field)
    if HUMAN in response:
        raise RowError("turn_marker_in_response", field)
    return parse_transcript(dialogue), response.strip()
