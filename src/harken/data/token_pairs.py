"""Parse pre-tokenised pairs: input_ids_chosen, attention_mask_chosen, …_rejected."""

from __future__ import annotations

import hashlib
from itertools import takewhile

from harken.data.fields import Row, RowError
from harken.data.fields import first_value as value_of
from harken.records import TokenPair


def is_token_pair(row: Row) -> bool:
    """Return whether a row has both sides as token ids."""
    return "input_ids_chosen" in row and "input_ids_rejected" in row


def parse_token_pair(row: Row, max_length: int, id: str | None = None) -> TokenPair:
    """Parse both sides without padding (mask 0). A pair longer than `max_length` is dropped, not truncated."""
    chosen, rejected = _side(row, "chosen"), _side(row, "rejected")
    if chosen == rejected:
        raise RowError("identical_responses")
    if max(len(chosen), len(rejected)) > max_length:
        raise RowError("response_too_long")
    return TokenPair(
        id or hashlib.sha256(repr((chosen, rejected)).encode()).hexdigest()[:16], chosen, rejected
    )


def shared_prefix(pair: TokenPair) -> tuple[int, ...]:
    """Return the tokens that both sides begin with, in place of the unknown prompt."""
    common = takewhile(
        lambda ids: ids[0] == ids[1], zip(pair.chosen_tokens, pair.rejected_tokens, strict=False)
    )
    return tuple(token for token, _ in common)


def prompt_length(pair: TokenPair) -> int:
    """Return the number of prompt tokens: as recorded, else all that both sides share, less than either side.

    If it is not recorded, tokens that both responses begin with count as prompt.
    """
    if pair.prompt_length is not None:
        return pair.prompt_length
    shorter = min(len(pair.chosen_tokens), len(pair.rejected_tokens))
    return min(len(shared_prefix(pair)), shorter - 1)


def _side(row: Row, side: str) -> tuple[int, ...]:
    tokens = _integers(row, f"input_ids_{side}")
    mask = f"attention_mask_{side}"
    if row.get(mask) is not None:
        attention_mask = _integers(row, mask)
        if len(attention_mask) != len(tokens) or any(flag > 1 for flag in attention_mask):
            raise RowError("wrong_type", mask)
        tokens = tuple(token for token, flag in zip(tokens, attention_mask, strict=True) if flag)
    if not tokens:
        raise RowError("empty_response", f"input_ids_{side}")
    return tokens


def _integers(row: Row, field: str) -> tuple[int, ...]:
    value = value_of(row, field)
    if not isinstance(value, list) or not all(type(item) is int and item >= 0 for item in value):
        raise RowError("wrong_type", field)
    return tuple(value)
