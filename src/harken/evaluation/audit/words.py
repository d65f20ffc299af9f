"""Split texts into words and extract the prose of a response."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

# Thai, Lao, Myanmar, Khmer, kana and Han put no spaces between words. Korean does.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
"""A regular expression's character class of the scripts that put no spaces between words."""
_WORD = re.compile(rf"[{UNSPACED}]|(?:(?![{UNSPACED}])[\w'])+")
_WORD_OF_SPACED = re.compile(r"[\w']+")
_ANY_UNSPACED = re.compile(rf"[{UNSPACED}]")
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})([^\n]*)$", re.MULTILINE)
_INLINE_CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_NO_PROSE = re.compile(r"\$\$.+?\$\$|\\\[.+?\\\]|https?://\S+|www\.\S+", re.DOTALL)
# Code in the text without a fence.
_CODE_LINE = re.compile(
    r"^(?=.{1,160}$)(?:.*(?:[;{}]|\)\s*:|\w\(\)\s*:?)\s*$"
    r"|\s*(?:#include|#pragma|import\s|from\s\w+\simport|def\s|class\s\w+[(:]|return\b|elif\b|else:|print\(|//|@\w).*$"
    r"|\s*[\w.\[\],]+(?: ?, ?[\w.\[\]]+)*\s?[-+*/]?=\s*\S.*$|\s*(?:for|while|if|with|try|except)\b.*:\s*$)",
    re.MULTILINE,
)


def words(text: str) -> list[str]:
    """Split a text into lower-case words, ``[\\w']+``; in scripts without spaces every character is a word."""
    lower = text.lower()
    return (_WORD if _ANY_UNSPACED.search(lower) else _WORD_OF_SPACED).findall(lower)


@dataclass(frozen=True, slots=True)
class CodeFences:
    """A text without its fenced code blocks, and the opening line of a block that is not closed."""

    outside: str
    unclosed: str | None


def split_fences(text: str) -> CodeFences:
    """Remove the fenced code blocks. A block that is not closed reaches to the end.

    A closing fence has the same character, at least as many of them, and nothing after them.
    Source: CommonMark 0.31.2, section 4.5.
    """
    outside_parts, position, opened = [], 0, None
    for match in _FENCE.finditer(text):
        fence, info = match[1], match[2]
        if opened is None:
            if "`" in info and fence[0] == "`":  # inline code, no fence
                continue
            outside_parts.append(text[position : match.start()])
            opened = match
        elif fence[0] == opened[1][0] and len(fence) >= len(opened[1]) and not info.strip():
            position, opened = match.end(), None
    if opened is None:
        outside_parts.append(text[position:])
    return CodeFences("".join(outside_parts), opened[0].strip() if opened else None)


@dataclass(frozen=True)
class ResponseText:
    """A response and the conversation before it, and the parts that several detectors read."""

    prompt: str
    """The last user message."""
    context: str
    """All messages before the response, including the prompt."""
    response: str

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> ResponseText:
        """Read a row of `responses.parquet`; without messages the context is the prompt."""
        prompt = str(row["prompt"] or "")
        messages = json.loads(row.get("messages") or "[]")
        texts = [str(message.get("content") or "") for message in messages]
        return cls(prompt, "\n\n".join(texts) if texts else prompt, str(row["response"]))

    @cached_property
    def words(self) -> list[str]:
        """Return the response's words."""
        return words(self.response)

    @cached_property
    def prompt_words(self) -> list[str]:
        """Return the prompt's words."""
        return words(self.prompt)

    @cached_property
    def fences(self) -> CodeFences:
        """Return the response without its fenced code."""
        return split_fences(self.response)

    @cached_property
    def outside_code(self) -> str:
        """Return the response without fenced and inline code."""
        outside = self.fences.outside
        return _INLINE_CODE.sub(" ", outside) if "`" in outside else outside

    @cached_property
    def prose(self) -> str:
        """Return the response without code, displayed formulas and links."""
        prose = self.outside_code
        if any(mark in prose for mark in ("$$", "\\[", "http", "www.")):
            prose = _NO_PROSE.sub(" ", prose)
        has_code = any(
            mark in prose for mark in ("=", ";", "{", "}", ")\n", ":\n", "#include", "import ", "//")
        )
        return _CODE_LINE.sub(" ", prose) if has_code else prose
