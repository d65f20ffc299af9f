"""Which token ends a response, and which id fills padding: one rule for rendering, sampling and saving. No torch."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def turn_end(tokenizer: PreTrainedTokenizerBase, after: str) -> int | None:
    """Find the token that ends a turn in `after`, what a chat template writes behind an assistant's text.

    The first special token there, else the first that was added to the vocabulary: some families do not declare
    their end of turn as special. None where the text holds neither.
    """
    special = set(tokenizer.all_special_ids)
    special |= {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    added = {i for i, token in tokenizer.added_tokens_decoder.items() if token.content.strip()}
    written = list(tokenizer(after, add_special_tokens=False, verbose=False)["input_ids"])
    return next((i for i in written if i in special), next((i for i in written if i in added), None))


def padding_id(pad: int | None, ends: Collection[int | None]) -> int:
    """Choose the id that fills padding: `pad`, or the smallest id that ends nothing where pad is missing or an end.

    Masks are made of lengths, so any id serves. One that ends no response keeps a mask of tokens from hiding an end.
    """
    if pad is not None and pad not in ends:
        return pad
    return next(i for i in range(len(ends) + 1) if i not in ends)


def listed_ends(eos: int | Iterable[int] | None) -> list[int]:
    """Return the ids of an `eos_token_id` as generation settings write it: a number, several, or none."""
    if eos is None:
        return []
    return [eos] if isinstance(eos, int) else [int(i) for i in eos]
