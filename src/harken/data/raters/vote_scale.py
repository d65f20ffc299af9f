"""Choose how the labels of a file of several raters are read: as sides of a comparison, scores or words. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from harken.data import pair_layouts
from harken.data.fields import to_float
from harken.data.labels import ResponseColumns, parse_word_label
from harken.errors import UserError

LabelKind = Literal["comparisons", "scores", "labels"]
MIN_VOTES_FOR_SIDES = 10
"""Votes in columns of raters from which at least one 2 is expected if 1 and 2 are the sides and 0 is a tie."""


@dataclass(frozen=True)
class VoteScale:
    """Read one label as a number, None where it is no label of the file. `words`: the labels of a file of words."""

    read: Callable[[object], float | None]
    kind: LabelKind
    words: tuple[str, ...] = ()


def choose_scale(
    votes: Sequence[object],
    layout: str,
    sides: ResponseColumns | None,
    order: Callable[[str], object],
    where: str,
) -> VoteScale:
    """Return how the labels of a file are read. `order` sorts words.

    Raises UserError for numbers 0 and 1 of unclear meaning.
    """
    if layout == "individual_preference":
        return VoteScale(to_float, "comparisons")
    words = [value for value in votes if isinstance(value, str) and to_float(value) is None]
    numbers = {to_float(value) for value in votes if value not in words}
    if sides is not None and (words or numbers <= {0.0, 1.0, 2.0, None}):
        side = _side_reader(sides)
        if not words:
            _require_clear_numbers(votes, numbers, layout, sides, where)
        if not words or any(side(word) is not None for word in words):
            return VoteScale(side, "comparisons")
    if sides is not None and not words and any((number or 0) < 0 for number in numbers):
        return VoteScale(to_float, "comparisons")
    if not words and not any(isinstance(value, bool) for value in votes):
        return VoteScale(to_float, "scores")
    names = tuple(sorted({_normalise(value) for value in votes}, key=order))  # type: ignore[arg-type]
    index = {name: float(i) for i, name in enumerate(names)}
    return VoteScale(lambda value: index.get(_normalise(value)), "labels", names)


def _side_reader(sides: ResponseColumns) -> Callable[[object], float | None]:
    def read(value: object) -> float | None:
        if isinstance(value, str) and (label := parse_word_label(value, sides)) is not None:
            return label[0]
        return pair_layouts.VOTES.get(to_float(value))  # type: ignore[arg-type]

    return read


def _require_clear_numbers(
    votes: Sequence[object], numbers: set[float | None], layout: str, sides: ResponseColumns, where: str
) -> None:
    """Raise UserError where 0 and 1 may be a tie and a side, or two sides: numbers without a 2.

    In columns of raters 0 is a tie (PandaLM), so a few votes without a 2 are accepted.
    """
    few = layout == "columns" and len(votes) < MIN_VOTES_FOR_SIDES
    if few or not numbers <= {0.0, 1.0} or (layout == "columns" and len(numbers) < 2):
        return
    raise UserError(
        f"votes of 0 and 1 may mean tie and {sides[0]}, or {sides[0]} and {sides[1]}",
        where=where,
        fix=f"write {sides[0]}, {sides[1]} and tie, or numbers below 0, above 0 and 0",
    )


def _normalise(value: object) -> str:
    return " ".join(str(value).split()).lower()
