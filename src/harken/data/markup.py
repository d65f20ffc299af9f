"""Find chat markup inside texts that a chat template will wrap."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from harken.records import Demonstration, Preference, Prompt, TokenPair

if TYPE_CHECKING:
    from harken.data.chat import Renderer

_KNOWN = re.compile(
    r"<\|(?:im_start|im_end|im_sep|user|assistant|system|end|eot_id|eom_id|begin_of_text|start_header_id"
    r"|end_header_id|endoftext|endofprompt|start|message|channel|return|turn|start_of_role|end_of_role"
    r"|END_OF_TURN_TOKEN|START_OF_TURN_TOKEN|CHATBOT_TOKEN|USER_TOKEN|SYSTEM_TOKEN|prompter|begin▁of▁sentence)\|>"
    r"|<(?:start_of_turn|end_of_turn)>|<｜(?:User|Assistant|begin▁of▁sentence|end▁of▁sentence)｜>"
    r"|\[/?INST\]|<</?SYS>>|\[(?:AVAILABLE_TOOLS|TOOL_CALLS|SYSTEM_PROMPT)\]"
    r"|(?m:^\s*\#{2,3} ?(?:Human|Assistant|Instruction|Response|User|System|Input):)"
    r"|(?m:^(?:USER|ASSISTANT|Human|Assistant|Instruct|Output): )"
)
_MARK = re.compile(r"<\|?[^<>|\s]{2,40}\|?>|\[/?[A-Z_]{3,30}\]|\#{2,3} ?\w+:")


class MarkupDetector:
    """Find chat markup in texts: that of common model families, and the model's own."""

    def __init__(self, renderer: Renderer | None = None) -> None:
        marks: set[str] = set()
        if renderer is not None and renderer.template is not None:
            marks = renderer.special.control | set(_MARK.findall(renderer.template.framing))
        self._own = re.compile(
            "|".join(map(re.escape, sorted(marks - {""}, key=len, reverse=True))) or "(?!)"
        )

    def find_markup(self, text: str) -> str:
        """Return the first markup in a text, "" for none."""
        match = _KNOWN.search(text) or self._own.search(text)
        return match[0].strip() if match else ""

    def warnings(self, rows: Iterable[Prompt | Demonstration | Preference | TokenPair]) -> list[str]:
        """Warn of rows that hold markup: how many, and which. Rows of token ids are skipped."""
        counted: Counter[str] = Counter()
        text_count = with_markup = 0
        for row in rows:
            if isinstance(row, TokenPair):
                continue
            text_count += 1
            marks = dict.fromkeys(mark for text in row_texts(row) if (mark := self.find_markup(text)))
            with_markup += bool(marks)
            counted.update(marks.keys())
        if not with_markup:
            return []
        examples = ", ".join(f"{mark!r} in {count:,}" for mark, count in counted.most_common(3))
        return [
            f"{with_markup:,} of {text_count:,} rows hold chat markup in their texts ({examples}): the model's chat "
            "template adds its own markup around it. Fix: give turns as plain text or messages, without the markup"
        ]


def row_texts(row: Prompt | Demonstration | Preference) -> Sequence[str]:
    """Return all texts of a row: its turns and its responses."""
    turns = [m.content for m in (row if isinstance(row, Prompt) else row.prompt).messages]
    return [*turns, *row_responses(row)]


def row_responses(row: Prompt | Demonstration | Preference) -> list[str]:
    """Return a row's responses, chosen and rejected alike."""
    if isinstance(row, Prompt):
        return []
    return [row.response] if isinstance(row, Demonstration) else [row.chosen, row.rejected]
