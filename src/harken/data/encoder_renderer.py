"""Encode conversations for a bidirectional encoder: [CLS] conversation [SEP] response [SEP].

An encoder has no chat template. Its tokenizer frames a pair of texts with its own special tokens, which are found by
encoding a probe. The first text is the conversation, the second the response, as in `reward.classifier`. Prompts lose
old turns and then their beginning; responses are never truncated.
Source: Devlin et al. 2019 (arXiv:1810.04805), section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harken.chat.template import TemplateRefusal
from harken.data.chat import Renderer
from harken.data.special_tokens import SpecialTokens
from harken.errors import UserError
from harken.records import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_FIRST, _SECOND = "a probe", "another text"


class EncoderRenderer(Renderer):
    """Encode conversations as the pair (conversation, response) that an encoder's tokenizer writes.

    Both parts are encoded alone, so prompt tokens + response tokens equal the tokenizer's encoding of the pair. Raises
    UserError for a tokenizer that writes no token before the first text, or none between the two.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, keep: bool | Sequence[str] | None = None) -> None:
        self.tokenizer, self.template = tokenizer, None
        self.prefix, self.middle, self.suffix = pair_frame(tokenizer)
        self._start = self.prefix
        self.separator = self.middle[-1]
        self.end_of_turn = self.suffix[-1]
        self.pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self.separator
        self.special = SpecialTokens(tokenizer, {*self.prefix, *self.middle, *self.suffix}, "")
        if keep is not None:
            self.special.keep(keep)
            self.special = SpecialTokens(tokenizer, {*self.prefix, *self.middle, *self.suffix}, "")

    def encode_prompt(self, messages: Sequence[Message], tools: str = "") -> list[int]:
        """Encode the conversation and the separator after it. `tools` must be empty.

        Raises TemplateRefusal for tools and calls of tools, for which an encoder has no format.
        """
        if tools or any(message.role == "tool" or message.extra for message in messages):
            reason = "an encoder cannot take tools"
            raise TemplateRefusal(reason, reason, fix="remove rows with tools, or train a language model")
        return [*self.prefix, *self._encode(self._escape(join_turns(messages))), *self.middle]

    def encode_response(self, text: str, ended: bool = True) -> list[int]:
        """Encode a response and the separator after it, which a truncated response has as well."""
        return [*self._encode(self._escape(text, response=True)), *self.suffix]

    def _escape(self, text: str, *, response: bool = False) -> str:
        return self.special.escape(text, response=response)


def pair_frame(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int], list[int]]:
    """Return the special tokens that a tokenizer writes before, between and after a pair of texts.

    Raises UserError when it writes none before or between, or changes a text that is in a pair.
    """
    ids = list(tokenizer(_FIRST, _SECOND, verbose=False)["input_ids"])
    first, second = (
        list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
        for text in (_FIRST, _SECOND)
    )
    begin = _find(ids, first, 0)
    end = -1 if begin < 0 else _find(ids, second, begin + len(first))
    prefix, middle, suffix = ids[:begin], ids[begin + len(first) : end], ids[end + len(second) :]
    if min(begin, end) < 0 or not (prefix and middle and suffix):
        raise UserError(
            "its tokenizer does not write a pair of texts as [CLS] first [SEP] second [SEP]",
            where=str(tokenizer.name_or_path),
            fix="set the post-processor of tokenizer.json as the model was pretrained with, or name another encoder",
        )
    return prefix, middle, suffix


def join_turns(messages: Sequence[Message]) -> str:
    """Join turns into one text, each with its role; a single turn is its text alone."""
    if len(messages) == 1:
        return messages[0].content
    return "\n\n".join(f"{message.role}: {message.content}" for message in messages)


def _find(ids: Sequence[int], part: Sequence[int], start: int) -> int:
    """Return where `part` begins in `ids` from `start` on; -1 if it is not there."""
    places = range(start, len(ids) - len(part) + 1)
    return next((i for i in places if list(ids[i : i + len(part)]) == list(part)), -1)
