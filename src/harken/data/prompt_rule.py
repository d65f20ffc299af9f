"""Decide where the prompt of a labelled text ends: after a number of words, or of tokens of a named model.

`harken.models` is above this layer and provides the tokenizers (`provide_token_offsets`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harken.config.base import DEFAULT_PROMPT_WORDS, DataConfig
from harken.data.fields import RowError

Offsets = Sequence[tuple[int, int]]
"""First character of each token of a text, and the one after its last."""
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")
_PROVIDED: list[Callable[[str], Callable[[str], Offsets]]] = []


def provide_token_offsets(load: Callable[[str], Callable[[str], Offsets]]) -> None:
    """Set the function that returns, for a model's name, a function from a text to the offsets of its tokens."""
    _PROVIDED[:] = [load]


@dataclass(frozen=True)
class PromptRule:
    """Split labelled texts after `count` words, or after `count` tokens of the tokenizer of the model `tokenizer`."""

    count: int
    tokenizer: str | None
    _offsets: Callable[[str], Offsets]

    @property
    def description(self) -> str:
        """Return what the prompts are, in words."""
        return f"{self.count} words" if self.tokenizer is None else f"{self.count} tokens of {self.tokenizer}"

    def split(self, text: str) -> tuple[str, str]:
        """Split a text into prompt and response, without white space at their ends.

        A character that the last token begins stays whole. Raises RowError when nothing is left for either.
        """
        offsets = self._offsets(text)
        end = offsets[self.count - 1][1] if len(offsets) >= self.count else len(text)
        prompt, response = text[:end].strip(), text[end:].strip()
        if not prompt or not response:
            raise RowError("text_too_short", "text")
        return prompt, response


def prompt_rule(data: DataConfig) -> PromptRule:
    """Return the rule of `data.prompt_tokens` or `data.prompt_words`. Raises UserError if there is no such model."""
    if data.prompt_tokens is None:
        return PromptRule(data.prompt_words or DEFAULT_PROMPT_WORDS, None, _word_offsets)
    assert data.prompt_tokenizer is not None
    if not _PROVIDED:
        raise RuntimeError("import harken.models.find_tokenizer before rows are read by tokens")
    return PromptRule(data.prompt_tokens, data.prompt_tokenizer, _PROVIDED[0](data.prompt_tokenizer))


def _word_offsets(text: str) -> Offsets:
    """Return the offsets of words. In writing without spaces every character is a word."""
    return [found.span() for found in _WORD.finditer(text)]
