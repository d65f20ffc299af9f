"""Find the token that ends a response and the padding id, for rendering, sampling and saving alike."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def find_end_of_turn(tokenizer: PreTrainedTokenizerBase, after: str) -> int | None:
    """Find the end-of-turn token in `after`, the text that a chat template writes after an assistant's text.

    It is the first special token, else the first token added to the vocabulary: some model families do not declare
    their end of turn as special. None where `after` has neither.
    """
    special = set(tokenizer.all_special_ids)
    special |= {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    added = {i for i, token in tokenizer.added_tokens_decoder.items() if token.content.strip()}
    written = list(tokenizer(after, add_special_tokens=False, verbose=False)["input_ids"])
    return next((i for i in written if i in special), next((i for i in written if i in added), None))


def padding_id(pad: int | None, ends: Collection[int | None]) -> int:
    """Choose the padding id: `pad`, or the smallest id that is not an end token if `pad` is missing or an end token.

    Attention masks come from lengths, so any id works. An id that does not end a response cannot hide an end of turn.
    """
    if pad is not None and pad not in ends:
        return pad
    return next(i for i in range(len(ends) + 1) if i not in ends)


def eos_ids(eos: int | Iterable[int] | None) -> list[int]:
    """Return the ids of an `eos_token_id` of generation settings: one number, a list, or None."""
    if eos is None:
        return []
    return [eos] if isinstance(eos, int) else [int(i) for i in eos]
