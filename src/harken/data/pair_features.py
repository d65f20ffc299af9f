"""Count features of a response by which a judge may be biased. No torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

_LIST_ITEM = re.compile(r"^\s*(?:[-*+•]|\d{1,9}[.)])\s+\S", re.MULTILINE)
_BOLD = re.compile(r"\*\*(?=\S)(?:(?!\*\*).)+\*\*")
_HEADING = re.compile(r"^ {0,3}#{1,6}\s+\S", re.MULTILINE)
_HEDGE = re.compile(
    r"\b(?:maybe|perhaps|possibly|probably|presumably|likely|might|could be|seems?|appears? to"
    r"|i (?:think|believe|guess|suppose)|(?:not|am not|i'm not) (?:entirely |quite |really )?(?:sure|certain)"
    r"|in my opinion|as far as i know|it depends)\b",
    re.IGNORECASE,
)


def _count(pattern: re.Pattern[str]) -> Callable[[str], int]:
    return lambda text: sum(1 for _ in pattern.finditer(text))


LENGTH_FEATURE = "longer"
"""The feature that most others grow with."""
PAIR_FEATURES: Mapping[str, tuple[str, Callable[[str], int]]] = {
    LENGTH_FEATURE: ("the longer response", len),
    "more_list_items": ("the response with more list items", _count(_LIST_ITEM)),
    "more_bold": ("the response with more bold text", _count(_BOLD)),
    "more_headings": ("the response with more headings", _count(_HEADING)),
    "more_hedges": ("the response with more hedges", _count(_HEDGE)),
    "more_exclamation_marks": ("the response with more exclamation marks", lambda text: text.count("!")),
}
"""Name → (what is preferred, a count). The names say of the preferred response what it has more of."""

JUDGE_RATER = "judge "
"""Begins the rater's name of pairs that a judge labelled."""
