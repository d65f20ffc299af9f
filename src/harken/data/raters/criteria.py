"""Combine several criteria of one annotation into one score, by weights that are stated (`data.criteria`). No torch.

An annotation is an entry of `individual_preference`, a listed response, or the row itself; its criteria are an object
`criteria` of numbers, or `annotations` of {"Rating": number} as UltraFeedback writes them. Criteria of a comparison are
below 0 for the first response and above 0 for the second; those of a listed response are higher for a better one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harken.data.arena_layouts import LISTS
from harken.data.fields import RowError, to_float
from harken.data.formats import LocatedRow
from harken.errors import UserError

_OBJECTS = ("criteria", "annotations")
_RATINGS = ("Rating", "rating", "score", "value")


def combine_criteria(
    rows: Sequence[LocatedRow], weights: Mapping[str, float], where: str
) -> list[LocatedRow]:
    """Return rows in which every annotation with criteria has their weighted mean as its score.

    It replaces a score that the annotation has. A row that lacks one of the criteria becomes a RowError. Raises
    UserError when no row has criteria.
    """
    scored_rows: list[LocatedRow] = []
    combined = 0
    for place, row in rows:
        try:
            scored = _row(row, weights) if isinstance(row, dict) else row
            combined += scored is not row
        except RowError as error:
            scored = error
            combined += 1
        scored_rows.append((place, scored))
    if not combined:
        raise UserError(
            f"data.criteria names {', '.join(weights)}, and no row has criteria",
            where=where,
            fix="write them as {criteria: {name: number}} in each annotation (docs/people.md), or remove data.criteria",
        )
    return scored_rows


def _row(row: dict[str, Any], weights: Mapping[str, float]) -> dict[str, Any]:
    """Return the row with scores; the row itself if it has no criteria."""
    scored = dict(row)
    for column in ("individual_preference", *LISTS):
        entries = row.get(column)
        if isinstance(entries, list) and any(_criteria(entry) is not None for entry in entries):
            scored[column] = [_scored(entry, weights) for entry in entries]
            if column == "individual_preference":
                scored.pop("overall_preference", None)
    if _criteria(row) is not None:
        scored["overall_preference"] = _score(row, weights)
    return scored if scored != row else row


def _scored(entry: object, weights: Mapping[str, float]) -> object:
    if not isinstance(entry, Mapping) or _criteria(entry) is None:
        return entry
    rest = {key: value for key, value in entry.items() if key not in ("rank", "ranking", *_OBJECTS)}
    return {**rest, "score": _score(entry, weights)}


def _score(annotation: Mapping[str, Any], weights: Mapping[str, float]) -> float:
    """Return the weighted mean of the criteria."""
    criteria = _criteria(annotation) or {}
    total = 0.0
    for name, weight in weights.items():
        value = criteria.get(name)
        if isinstance(value, Mapping):
            value = next((value[key] for key in _RATINGS if key in value), None)
        number = to_float(value)
        if number is None:
            raise RowError("missing_field", f"criteria.{name}")
        total += weight * number
    return total / sum(weights.values())


def _criteria(annotation: object) -> Mapping[str, Any] | None:
    if not isinstance(annotation, Mapping):
        return None
    return next((annotation[name] for name in _OBJECTS if isinstance(annotation.get(name), Mapping)), None)
