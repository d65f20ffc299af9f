"""Handle text that spells special tokens of the model: escape it with a space, or keep it in responses on request."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

from harken.chat import template as chat_template
from harken.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

KEY = "keep_special_tokens"


class SpecialTokens:
    """Classify the special tokens of a tokenizer: control tokens, and those that responses keep.

    `template_text` is the text that the chat template writes around texts. Special tokens in it, end tokens, and those
    with a standard role (bos, eos, unk, pad …) are control tokens: they are never kept in a response.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, end_ids: Collection[int], template_text: str
    ) -> None:
        self._tokenizer = tokenizer
        special = {str(t) for t in tokenizer.added_tokens_decoder.values() if t.special}
        special |= {*tokenizer.all_special_tokens, *map(str, tokenizer.convert_ids_to_tokens(list(end_ids)))}
        self.all = special - {""}
        kinds = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
        standard = {getattr(tokenizer, f"{name}_token", None) for name in kinds}
        end = {token for token in self.all if tokenizer.convert_tokens_to_ids(token) in end_ids}
        self.control = {t for t in self.all if t in standard or t in end or t in template_text}
        self.kept = self._recorded()
        self._anywhere, self._in_responses = _any_of(self.all), _any_of(self.all - self.kept)
        self._hidden = {int(i) for i in tokenizer.convert_tokens_to_ids([*(self.all - self.kept)])}

    def escape(self, text: str, *, response: bool = False) -> str:
        """Insert a space into every special token that the text spells, except those that a response keeps."""
        return (self._in_responses if response else self._anywhere).sub(_insert_space, text)

    def find(self, text: str) -> list[str]:
        """Return the special tokens that a response spells and that `escape` changes."""
        return self._in_responses.findall(text)

    def decode(self, tokens: Sequence[int]) -> str:
        """Decode tokens, without the special tokens that are not kept."""
        if not self.kept:
            return str(
                self._tokenizer.decode(
                    list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False
                )
            )
        visible = [token for token in tokens if token not in self._hidden]
        return str(
            self._tokenizer.decode(visible, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        )

    def keep(self, names_to_keep: bool | Sequence[str]) -> None:
        """Keep special tokens in responses (True: all but control tokens), and record the choice with the tokenizer.

        Raises UserError for a control token, and for text that is not a special token of the tokenizer.
        """
        names = sorted(self.all - self.control) if names_to_keep is True else [*(names_to_keep or [])]
        for name in names:
            if name in self.control:
                raise UserError(
                    f"{name!r} is a control token of the chat: in a response it would end or begin a turn",
                    where=f"data.{KEY}",
                    fix="remove it",
                )
            if name not in self.all:
                near = get_close_matches(name, self.all, n=1)
                available = ", ".join(sorted(self.all - self.control)[:8]) or "none but control tokens"
                raise UserError(
                    f"{name!r} is not a special token of {self._tokenizer.name_or_path or 'the tokenizer'}",
                    where=f"data.{KEY}",
                    fix=f"write {near[0]!r}" if near else f"choose among {available}",
                )
        chat_template.set_record(self._tokenizer, **{KEY: names or None})

    def _recorded(self) -> set[str]:
        recorded = chat_template.get_record(self._tokenizer).get(KEY)
        names = (
            set(recorded)
            if isinstance(recorded, list) and all(isinstance(n, str) for n in recorded)
            else set()
        )
        return (names & self.all) - self.control


def _any_of(tokens: Collection[str]) -> re.Pattern[str]:
    longest_first = sorted(tokens, key=lambda token: (-len(token), token))
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


def _insert_space(spelled_out: re.Match[str]) -> str:
    token = spelled_out[0]
    return f"{token[0]} {token[1:]}" if len(token) > 1 else ""
