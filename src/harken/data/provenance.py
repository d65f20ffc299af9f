"""Find out which models wrote the two responses of a row, and who judged them.

Data sets name the source of a response in many ways: one column per side, or one column for both.
"""

from __future__ import annotations

from harken.data.fields import Row, RowError, first_text, to_float
from harken.data.labels import parse_word_label
from harken.records import Voter
from harken.run.terminal import escape_invisible

_SIDES = tuple(
    pair
    for stem in ("model", "policy", "source", "generator", "origin")
    for pair in (
        (f"chosen_{stem}", f"rejected_{stem}"),
        (f"{stem}_chosen", f"{stem}_rejected"),
        (f"response1_{stem}", f"response2_{stem}"),
        (f"response_1_{stem}", f"response_2_{stem}"),
        (f"response_a_{stem}", f"response_b_{stem}"),
        (f"{stem}_a", f"{stem}_b"),
        (f"{stem}_1", f"{stem}_2"),
        (f"{stem}1", f"{stem}2"),
    )
)
_BOTH = ("policy", "source_policy", "generator", "model", "model_name")
RATER_COLUMNS = (
    "rater",
    "rater_id",
    "scorer",
    "annotator",
    "annotator_id",
    "worker",
    "worker_id",
    "labeler",
    "labeler_id",
)
"""Columns that name who judged a row."""
PREFERRED_FIRST = frozenset({"prompt_chosen_rejected", "chosen_rejected", "ranking", "scored_list"})
"""Layouts whose rows put the better response first, so that their order carries no information."""


def written_by(row: Row) -> tuple[str, str]:
    """Return the names of the models that wrote the first and the second response of a row, "" where unknown."""
    for first, second in _SIDES:
        if isinstance(row.get(first), str) and isinstance(row.get(second), str):
            return _clean(row[first]), _clean(row[second])
    name = _clean(next((row[column] for column in _BOTH if isinstance(row.get(column), str)), ""))
    return name, name


def rater_name(row: Row) -> str:
    """Return who judged a row, "" if unknown."""
    for column in RATER_COLUMNS:
        value = row.get(column)
        if isinstance(value, str) or type(value) is int:
            return _clean(str(value))
    return ""


_GROUPS = ("rater_group", "annotator_group")
_WEIGHTS = ("rater_weight", "annotator_weight")
GOLD_COLUMN = "gold"
"""Column with the known judgement of a golden row."""


def voter(row: Row, entry: bool = False) -> Voter:
    """Return who judged a row: name, group and weight where it has them. `entry`: one of `individual_preference`, which
    may call them group and weight.

    Raises RowError for a weight that is no number of 0 or more.
    """
    groups, weights = ((*_GROUPS, "group"), (*_WEIGHTS, "weight")) if entry else (_GROUPS, _WEIGHTS)
    group = next((row[name] for name in groups if isinstance(row.get(name), str)), "")
    column = next((name for name in weights if row.get(name) is not None), None)
    weight = None if column is None else to_float(row[column])
    if column is not None and (weight is None or weight < 0):
        raise RowError("wrong_type", column)
    return Voter(rater_name(row), _clean(group), weight)


def golden_judgement(row: Row) -> float | None:
    """Return the known judgement of a golden row: below 0 the first response, above 0 the second, 0 a tie; else None.

    The column `gold` has first or second, chosen or rejected, or tie; or a number on this scale. Raises RowError for
    anything else.
    """
    if row.get(GOLD_COLUMN) is None:
        return None
    if (number := to_float(row[GOLD_COLUMN])) is not None:
        return number
    judgement = parse_word_label(first_text(row, GOLD_COLUMN), ("chosen", "rejected"))
    if judgement is None:
        raise RowError("unknown_label", GOLD_COLUMN)
    return judgement[0]


def _clean(name: str) -> str:
    return escape_invisible(name.encode("utf-8", "backslashreplace").decode())
