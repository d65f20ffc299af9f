"""Read rows that several raters labelled, in any of four layouts, as votes by rater. No torch.

individual_preference   a list of {score, rater}: HelpSteer3, `harken review export`
columns                 annotator1, annotator2, …: one column for each rater (PandaLM), or columns that are named
ratings                 a list of numbers, or of {rater, score}
long                    one row for each vote: columns for the item, the rater and the label
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from harken.data import files, pair_layouts, provenance
from harken.data.columns import rename_columns
from harken.data.fields import Row, RowError, first_present, to_float
from harken.data.labels import ResponseColumns
from harken.data.raters.vote_scale import LabelKind, choose_scale
from harken.errors import UserError

ITEM_COLUMNS = ("item", "item_id", "row", "row_id", "task_id", "example_id", "idx", "id")
LABEL_COLUMNS = ("label", "vote", "choice", "preference", "winner", "score", "rating", "value")
TIME_COLUMNS = ("time", "timestamp", "received_at", "created_at", "submitted_at", "updated_at")
LABEL_LISTS = ("ratings", "votes", "annotations", "labels")
MAX_LABEL_VALUES = 101
"""Most different labels of one file: 0 … 100, for example."""
MAX_UNREAD = 3
"""Labels that cannot be read and are shown as examples."""
_SIDES: tuple[ResponseColumns, ...] = (
    ("response1", "response2"), ("response_1", "response_2"), ("response_a", "response_b"), ("output_1", "output_2"),
    ("answer_a", "answer_b"), ("completion_a", "completion_b"), ("chosen", "rejected"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RaterVote:
    """Hold one label. A comparison is below 0 for the first response, above 0 for the second, and 0 for a tie.

    `value` of a file of words is the index in `RatedRows.labels`. `order` sorts the votes of a rater: the time if the
    rows have one, else the place in the file.
    """

    rater: str
    value: float
    order: tuple[float, int]


@dataclass(frozen=True, slots=True)
class RatedRow:
    """Hold the votes on one item. `first_longer`: whether the first response is longer; None: neither, or unknown."""

    id: str
    votes: tuple[RaterVote, ...]
    first_longer: bool | None = None
    gold: float | None = None


@dataclass(frozen=True)
class RatedRows:
    """Hold the rows of a file. `named`: votes name their rater; otherwise only their values are known.

    `unread`: examples of labels that could not be read.
    """

    path: str
    layout: str
    kind: LabelKind
    rows: list[RatedRow]
    named: bool
    labels: list[str] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    unread: list[str] = field(default_factory=list)

    @property
    def raters(self) -> list[str]:
        """Return the raters in order of their names; numbers in names sort as numbers. [] if they are not named."""
        names = {vote.rater for row in self.rows for vote in row.votes} if self.named else set()
        return sorted(names, key=_natural_sort_key)

    def verdict(self, value: float) -> float:
        """Return what two raters must share to agree: the side of a comparison, the value of a score or a label."""
        return float((value > 0) - (value < 0)) if self.kind == "comparisons" else value


@dataclass(frozen=True)
class RaterColumns:
    """Name the columns of a file whose names are not known: one per rater, or item, rater and label of a long file."""

    raters: tuple[str, ...] = ()
    item: str | None = None
    rater: str | None = None
    label: str | None = None


DEFAULT_COLUMNS = RaterColumns()


def read_rated_rows(
    path: str,
    columns: RaterColumns = DEFAULT_COLUMNS,
    *,
    split: str = "train",
    renamed: Mapping[str, str] | None = None,
) -> RatedRows:
    """Read a file of labels by several raters. The layout is that of the module's docstring that fits the first row.

    Raises UserError when the file cannot be read, no layout fits, or no row has a label.
    """
    located = rename_columns(files.read_source_rows(path, split), renamed or {}, path)
    objects = [row for _, row in located if isinstance(row, dict)]
    layout = _detect_layout(objects, columns, path)
    reader = _Reader(path, layout, columns, objects)
    for place, (_, row) in enumerate(located):
        if not isinstance(row, dict):
            reader.dropped["not_an_object"] += 1
            continue
        try:
            reader.read(place, row)
        except RowError as error:
            reader.dropped[error.reason + (f":{error.field}" if error.field else "")] += 1
    return reader.finish()


def _detect_layout(rows: Sequence[Row], columns: RaterColumns, path: str) -> str:
    first_rows = rows[:100]
    if columns.raters:
        if missing := [name for name in columns.raters if not any(name in row for row in rows)]:
            raise UserError(
                f"no row has a column {missing[0]!r}",
                where=path,
                fix="name columns of the file with --raters",
            )
        return "columns"
    if columns.rater or columns.label or columns.item:
        return "long"
    if any(isinstance(row.get("individual_preference"), list) for row in first_rows):
        return "individual_preference"
    if any(pair_layouts.annotator_columns(row) for row in first_rows):
        return "columns"
    if any(isinstance(row.get(name), list) for row in first_rows for name in LABEL_LISTS):
        return "ratings"
    if first_rows and _long_columns(first_rows[0], columns) is not None:
        return "long"
    names = ", ".join(str(key) for key in (rows[0] if rows else {}))[:300] or "none"
    raise UserError(
        f"its rows have no labels of several raters; the first has the columns: {names}",
        where=path,
        fix="name one column for each rater (--raters anna,ben), or the columns of single votes "
        "(--item id --rater worker --label choice)",
    )


def _long_columns(row: Row, columns: RaterColumns) -> tuple[str, str, str] | None:
    """Return the columns of item, rater and label of a long file."""
    item = columns.item or first_present(row, ITEM_COLUMNS)
    rater = columns.rater or first_present(row, provenance.RATER_COLUMNS)
    label = columns.label or first_present(row, LABEL_COLUMNS)
    return (item, rater, label) if item and rater and label else None


class _Reader:
    """Collect votes by item; words become indices at the end."""

    def __init__(self, path: str, layout: str, columns: RaterColumns, rows: Sequence[Row]) -> None:
        self.path, self.layout, self.columns = path, layout, columns
        self.dropped: Counter[str] = Counter()
        self.votes: dict[str, list[tuple[str, object, tuple[float, int]]]] = {}
        self.facts: dict[str, tuple[bool | None, object]] = {}
        self.named = layout in ("columns", "long")
        self.unread: dict[str, None] = {}
        self.sides = _sides(rows)

    def read(self, place: int, row: Row) -> None:
        long = _long_columns(row, self.columns) if self.layout == "long" else None
        if self.layout == "long" and long is None:
            raise RowError("missing_field", self.columns.rater or "rater")
        key = first_present(row, ITEM_COLUMNS)
        item = _to_name(row[long[0]], long[0]) if long else _to_name(row[key], key) if key else str(place)
        if not long and item in self.votes:
            item = f"{item}, row {place + 1}"
        votes = [
            (_to_name(rater, "rater"), self._side_of_text(row, value), order)
            for rater, value, order in self._votes(row, place, long)
        ]
        if not votes:
            raise RowError("unscored")
        self.votes.setdefault(item, []).extend(votes)
        gold = self._side_of_text(row, row.get(provenance.GOLD_COLUMN))
        self.facts.setdefault(item, (self._first_longer(row), gold))

    def _votes(
        self, row: Row, place: int, long: tuple[str, str, str] | None
    ) -> list[tuple[object, object, tuple[float, int]]]:
        time = _vote_time(row)
        if long is not None:
            if row.get(long[2]) is None or row.get(long[1]) is None:
                raise RowError("missing_field", long[2] if row.get(long[2]) is None else long[1])
            return [(row[long[1]], row[long[2]], (time, place))]
        if self.layout == "columns":
            names = self.columns.raters or pair_layouts.annotator_columns(row)
            return [(name, row[name], (time, place)) for name in names if row.get(name) is not None]
        column = (
            "individual_preference"
            if self.layout == "individual_preference"
            else first_present(row, LABEL_LISTS)
        )
        entries = row.get(column) if column else None
        votes: list[tuple[object, object, tuple[float, int]]] = []
        for number, entry in enumerate(entries if isinstance(entries, list) else []):
            rater: object = f"#{number + 1}"
            value = entry
            if isinstance(entry, Mapping):
                rater_column = first_present(entry, provenance.RATER_COLUMNS)
                label_column = first_present(entry, ("score", *LABEL_COLUMNS))
                value = entry[label_column] if label_column else None
                if rater_column is not None:
                    rater, self.named = entry[rater_column], True
            if value is not None:
                votes.append((rater, value, (time, place)))
        return votes

    def _side_of_text(self, row: Row, value: object) -> object:
        """Return the name of the response that a label quotes word by word; else the label as it is."""
        if self.sides is None or not isinstance(value, str):
            return value
        matching = [side for side in self.sides if row.get(side) == value]
        return matching[0] if len(matching) == 1 else value

    def _first_longer(self, row: Row) -> bool | None:
        if self.sides is None:
            return None
        first, second = (row.get(side) for side in self.sides)
        if not isinstance(first, str) or not isinstance(second, str) or len(first) == len(second):
            return None
        return len(first) > len(second)

    def finish(self) -> RatedRows:
        """Convert the collected labels to votes. Raises UserError where none can be read, or too many differ."""
        labels = [value for votes in self.votes.values() for _, value, _ in votes]
        if not labels:
            raise UserError(
                "no row has a label", where=self.path, fix="name the columns of the labels (--help)"
            )
        scale = choose_scale(labels, self.layout, self.sides, _natural_sort_key, self.path)
        rows = []
        for item, votes in self.votes.items():
            row_votes = []
            for rater, value, order in votes:
                number = scale.read(value)
                if number is None:
                    self._note_unread("unknown_label", value)
                else:
                    row_votes.append(RaterVote(rater, number, order))
            first_longer, gold = self.facts[item]
            rows.append(RatedRow(item, _last_by_rater(row_votes), first_longer, self._gold(gold, scale.read)))
        self._require_few_labels({vote.value for row in rows for vote in row.votes}, labels[0])
        return RatedRows(
            self.path,
            self.layout,
            scale.kind,
            rows,
            self.named,
            list(scale.words),
            self.dropped,
            list(self.unread),
        )

    def _gold(self, gold: object, read: Callable[[object], float | None]) -> float | None:
        if gold is None:
            return None
        number = read(gold)
        if number is None:
            self._note_unread("unknown_gold", gold)
        return number

    def _note_unread(self, reason: str, value: object) -> None:
        self.dropped[reason] += 1
        if len(self.unread) < MAX_UNREAD:
            self.unread[repr(value)[:40]] = None

    def _require_few_labels(self, distinct: set[float], example: object) -> None:
        if len(distinct) > MAX_LABEL_VALUES:
            raise UserError(
                f"the labels have {len(distinct):,} different values, more than {MAX_LABEL_VALUES}",
                where=self.path,
                fix="write them on a scale such as 1 to 10",
            )
        if not distinct:
            raise UserError(
                f"no label can be read, for example {example!r}",
                where=self.path,
                fix="write numbers, or the name of a side or tie (docs/people.md)",
            )


def _sides(rows: Sequence[Row]) -> ResponseColumns | None:
    """Return the columns of the two responses: the first known pair that a row has as text or turns."""
    for pair in _SIDES:
        if any(all(isinstance(row.get(side), str | list) for side in pair) for row in rows):
            return pair
    return None


def _to_name(value: object, column: str) -> str:
    """Return the name of a rater or an item as text. Raises RowError for a list, an object or blank text."""
    if isinstance(value, list | dict) or not str(value).strip():
        raise RowError("wrong_type", column)
    return str(value)


def _last_by_rater(votes: Sequence[RaterVote]) -> tuple[RaterVote, ...]:
    """Keep each rater's last vote on an item: a later one revises it."""
    latest: dict[str, RaterVote] = {}
    for vote in sorted(votes, key=lambda vote: vote.order):
        latest[vote.rater] = vote
    return tuple(latest[rater] for rater in sorted(latest, key=_natural_sort_key))


def _vote_time(row: Row) -> float:
    """Return the time of a vote in seconds, 0 if the row has none that can be read."""
    name = first_present(row, TIME_COLUMNS)
    value = row.get(name) if name else None
    if (number := to_float(value)) is not None:
        return number
    try:
        return datetime.fromisoformat(str(value)).timestamp() if isinstance(value, str) else 0.0
    except (ValueError, OverflowError):
        return 0.0


def _natural_sort_key(name: str) -> tuple[tuple[int, str], ...]:
    """Sort numbers inside names by size: rater2 before rater10."""
    return tuple(
        (int(part), "") if part.isdigit() and part.isascii() else (-1, part)
        for part in re.split(r"(\d+)", name)
    )
