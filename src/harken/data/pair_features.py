"""Count features of a response by which a judge may be biased. No torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

_LIST_ITEM = re.compile(r"^\s*(?:[-*+]|\d{1,9}[.)])\s+\S", re.MULTILINE)
_MARKUP = re.compile(r"\*\*\S|^ {0,3}#{1,6}\s+\S", re.MULTILINE)

PAIR_FEATURES: Mapping[str, tuple[str, Callable[[str], int]]] = {
    "longer": ("the longer response", len),
    "more_list_items": ("the response with more list items", lambda text: len(_LIST_ITEM.findall(text))),
    "more_markup": ("the response with more headers and bold text", lambda text: len(_MARKUP.findall(text))),
    "more_exclamation_marks": ("the response with more exclamation marks", lambda text: text.count("!")),
}
"""Name → (what is preferred, a count). The names say of the preferred response what it has more of."""

JUDGE_RATER = "judge "
"""Begins the rater's name of pairs that a judge labelled."""
