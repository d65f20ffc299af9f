"""Count the markup of a response: headers, list items and bold text. No torch.

What is counted: Li, Angelopoulos and Chiang 2024, "Does style matter?", lmsys.org/blog/2024-08-28-style-control.
"""

from __future__ import annotations

import re

from harken.evaluation.audit.words import split_fences

MARKUP = ("headers", "lists", "bold")
"""What is counted in a response, in the order of `count_styles`."""

_HEADER = re.compile(r"^ {0,3}#{1,6}\s+\S", re.MULTILINE)
_LIST_ITEM = re.compile(r"^\s*(?:[-*+]|\d{1,9}[.)])\s+\S", re.MULTILINE)
_BOLD = re.compile(r"\*\*(?=\S)[^*\n]+(?<=\S)\*\*|(?<!\w)__(?=\S)[^_\n]+(?<=\S)__(?!\w)")


def count_styles(text: str) -> tuple[int, int, int]:
    """Count headers, list items and bold spans of Markdown outside fenced code."""
    if not any(mark in text for mark in "#*-+_.)"):
        return 0, 0, 0
    outside = split_fences(text).outside if "```" in text or "~~~" in text else text
    headers, items, bold = (len(pattern.findall(outside)) for pattern in (_HEADER, _LIST_ITEM, _BOLD))
    return headers, items, bold
