"""Measure how often the items of a list repeat."""

from __future__ import annotations

import re

from harken.evaluation.audit.words import words

_ITEM = re.compile(r"^\s*(?:[-*+•]|\(?\d{1,3}[.)、:])\s*(\S.*)$", re.MULTILINE)
MIN_ITEMS = 4
"""Items below which no share is computed, because one repetition would already exceed the threshold."""


def repeated_item_fraction(outside_code: str) -> float:
    """Compute the share of list items that occurred before in the response: 1 - unique / all.

    Items are compared as lower-case words without numbers, so renumbered copies are equal. Items of a single word or
    number, such as those of a table of scores, are left out. 0 when fewer than `MIN_ITEMS` items are left.
    """
    items = [tuple(w for w in words(m[1]) if not w.isdigit()) for m in _ITEM.finditer(outside_code)]
    items = [item for item in items if len(item) >= 2]
    return 1.0 - len(set(items)) / len(items) if len(items) >= MIN_ITEMS else 0.0
