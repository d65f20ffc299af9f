"""Parse battles of two models (crowd-sourced comparisons with a winner) and lists of scored responses."""

from __future__ import annotations

import json
from collections.abc import Mapping

from harken.data import conversations, fields, labels, preferences
from harken.data.conversations import Conversation
from harken.data.fields import Row, RowError
from harken.data.preferences import Comparison
from harken.records import Message

SIDES = ("response_a", "response_b")
WINNERS = ("winner_model_a", "winner_model_b")
LISTS = ("answers", "completions", "responses", "candidates", "generations")
TEXTS = ("answer", "text", "response", "content", "completion", "output")
RANKS = ("rank", "ranking")
SCORES = ("score", "overall_score", "rating", "reward")


def is_battle(row: Row) -> bool:
    """Return whether a row has one-hot winner columns, or two conversations and a winner."""
    one_hot = all(name in row for name in WINNERS) and all(side in row for side in SIDES)
    return one_hot or ("winner" in row and "conversation_a" in row and "conversation_b" in row)


def battle_prompt(row: Row) -> Conversation:
    """Parse the conversation that both models responded to."""
    return _sides(row)[0]


def battle(row: Row) -> tuple[Conversation, list[Comparison]]:
    """Parse the last response of each model, and the winner. The turns before it must be equal on both sides."""
    turns, first, second = _sides(row)
    return turns, [Comparison(first, second, _winner(row))]


def _sides(row: Row) -> tuple[Conversation, str, str]:
    if row.get("conversation_a") is not None:
        left, right = (
            fields.parse_messages(fields.first_value(row, f"conversation_{s}"), f"conversation_{s}")
            for s in "ab"
        )
    else:
        prompts = _texts(row, "prompt")
        left, right = (_dialogue(prompts, _texts(row, side), side) for side in SIDES)
    (prompt, first), (other, second) = (
        conversations.split_last_response(turns, side)
        for turns, side in zip((left, right), SIDES, strict=True)
    )
    if not conversations.is_same_conversation(prompt, other):
        raise RowError("prompts_differ")
    return prompt, first, second


def _dialogue(prompts: list[str], responses: list[str], field: str) -> Conversation:
    if len(prompts) != len(responses):
        raise RowError("wrong_type", field)
    turns: list[Message] = []
    for prompt, response in zip(prompts, responses, strict=True):
        turns += [Message("user", prompt), Message("assistant", response)]
    return tuple(turns)


def _texts(row: Row, field: str) -> list[str]:
    """Return one text per turn from a list, a list as JSON text, or a single text."""
    value = fields.first_value(row, field)
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            parsed = json.loads(value)
        except ValueError:
            parsed = None
        value = parsed if isinstance(parsed, list) else value
    items = value if isinstance(value, list) else [value]
    return [fields.require_text("" if item is None else item, field) for item in items]


def _winner(row: Row) -> float:
    if "winner" in row and WINNERS[0] not in row:
        label = labels.parse_word_label(fields.first_text(row, "winner"), SIDES)
        if label is None:
            raise RowError("unknown_label", "winner")
        return label[0]
    flags = [fields.to_float(row.get(name)) for name in (*WINNERS, "winner_tie")]
    if flags.count(1.0) != 1 or any(flag not in (0.0, 1.0, None) for flag in flags):
        raise RowError("unknown_label", WINNERS[0])
    return (-1.0, 1.0, 0.0)[flags.index(1.0)]


def is_scored_list(row: Row) -> bool:
    """Return whether a column lists responses as objects with a rank or a score."""
    name = next((name for name in LISTS if isinstance(row.get(name), list) and row[name]), None)
    first = row[name][0] if name else None
    return (
        isinstance(first, Mapping)
        and fields.first_present(first, TEXTS) is not None
        and fields.first_present(first, (*RANKS, *SCORES)) is not None
    )


def scored_list_prompt(row: Row) -> Conversation:
    """Parse the prompt of a list of responses."""
    return conversations.parse_prompt(row)


def scored_list(row: Row) -> tuple[Conversation, list[Comparison]]:
    """Compare every pair of the listed responses: a lower rank or a higher score is better; equal ones tie."""
    name = next((name for name in LISTS if isinstance(row.get(name), list)), None)
    if name is None:
        raise RowError("missing_field", LISTS[0])
    texts, ranks = [], []
    for item in row[name]:
        if not isinstance(item, Mapping):
            raise RowError("wrong_type", name)
        texts.append(fields.first_text(item, *TEXTS))
        by_rank = fields.first_present(item, RANKS)
        by_score = fields.first_present(item, SCORES)
        rank = fields.to_float(item[by_rank or by_score]) if by_rank or by_score else None
        if rank is None:
            raise RowError("wrong_type", f"{name}.rank")
        ranks.append(rank if by_rank else -rank)
    if len(texts) < 2:
        raise RowError("wrong_type", name)
    return scored_list_prompt(row), preferences.ranked_pairs(texts, ranks)
