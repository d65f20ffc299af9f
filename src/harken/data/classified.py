"""Read labelled responses: of two labels or both sides of pairs for a classifier, with thumbs for the loss kto."""

from __future__ import annotations

from collections.abc import Sequence

from harken.config.base import DataConfig
from harken.data import fields, files, labelled_texts
from harken.data.fields import Row, RowError
from harken.data.layouts import Layout
from harken.data.parse import Read, convert_rows, open_rows, prompt_of_row, rejection_reason
from harken.data.report import DataReport
from harken.errors import UserError
from harken.records import Demonstration
from harken.run.counted import counted

THUMBS = {
    "true": True, "up": True, "good": True, "desirable": True,
    "false": False, "down": False, "bad": False, "undesirable": False,
}  # fmt: skip
"""Words for a thumb. Numbers above 0 are thumbs up, others down."""


def parse_classified_rows(
    data: DataConfig, path: str | None = None
) -> tuple[list[Demonstration], DataReport]:
    """Parse single responses of two labels, or pairs, whose better side has the positive label.

    Which label is the positive one is decided from all labels of the file (`labelled_texts.judge_labels`). 0 and 1,
    true and false need `data.positive_label`, because 1 may mark faulty responses as well as good ones.
    """
    rows, layout, report = open_rows(data, path, "classifier")
    if layout.has_comparisons:
        return _both_sides(rows, layout, report, data.max_length), report
    if layout.demonstration is None:
        raise UserError(
            f"rows in layout {layout.name!r} ({layout.description}) are not responses with a label",
            where=report.path,
            fix="write prompt, response and label in every row, or pairs of responses",
        )
    labels = [row.get("label") for _, row in rows if isinstance(row, dict)]
    names = files.class_names(report.path, data.split, data.columns.get("label", "label"))
    meaning = labelled_texts.judge_labels(
        labels, names, data.positive_label, report.path, numbers_are_clear=False
    )
    read_response = layout.demonstration

    def read(row: Row) -> Read[Demonstration]:
        label = labelled_texts.label_key(row.get("label"))
        if label not in (meaning.positive, meaning.negative):
            raise RowError("unlabelled", "label")
        turns, response = read_response(row)
        prompt, shortened = prompt_of_row(row, turns)
        if not response.strip():
            raise RowError("empty_response")
        return [Demonstration(prompt, response, label == meaning.positive)], shortened

    records = convert_rows(rows, read, report, data.max_length)
    _note_labels(report, records, f"label {meaning.positive} is the positive one (by {meaning.why})")
    return records, report


def parse_rated_rows(data: DataConfig, path: str | None = None) -> tuple[list[Demonstration], DataReport]:
    """Parse single responses with a thumb up or down in the column `label`."""
    rows, layout, report = open_rows(data, path, "unpaired_preference")
    if layout.demonstration is None:
        raise UserError(
            f"rows in layout {layout.name!r} ({layout.description}) are not single responses with a label",
            where=data.path if path is None else path,
            fix="write one response per row with label true or false; pairs: --task preference (kto reads them too)",
        )
    read_response = layout.demonstration

    def read(row: Row) -> Read[Demonstration]:
        desirable = parse_thumb(row.get("label"))
        if desirable is None:
            raise RowError("no_thumb", "label")
        turns, response = read_response(row)
        prompt, shortened = prompt_of_row(row, turns)
        if not response.strip():
            raise RowError("empty_response")
        return [Demonstration(prompt, response, desirable)], shortened

    records = convert_rows(rows, read, report, data.max_length)
    good = sum(bool(record.desirable) for record in records)
    report.notes.append(f"{good:,} desirable and {counted(len(records) - good, 'undesirable response')}")
    return records, report


def parse_thumb(label: object) -> bool | None:
    """Return True for a thumb up, False for a thumb down, None for any other value."""
    if isinstance(label, bool):
        return label
    if isinstance(label, str) and label.strip().lower() in THUMBS:
        return THUMBS[label.strip().lower()]
    value = fields.to_float(label)
    return None if value is None else value > 0


def _both_sides(
    rows: Sequence[files.LocatedRow], layout: Layout, report: DataReport, limit: int
) -> list[Demonstration]:
    """Return the better side of each pair with the positive label, and the other side with the negative one."""
    assert layout.comparisons is not None
    compare = layout.comparisons

    def read(row: Row) -> Read[Demonstration]:
        turns, compared = compare(row)
        prompt, shortened = prompt_of_row(row, turns)
        records: list[Demonstration | RowError] = []
        for comparison in compared:
            reason = "tie" if comparison.score == 0 else rejection_reason(comparison)
            if reason is not None:
                records.append(RowError(reason))
                continue
            first_is_better = comparison.score < 0
            records.append(Demonstration(prompt, comparison.first, first_is_better))
            records.append(Demonstration(prompt, comparison.second, not first_is_better))
        return records, shortened

    records = convert_rows(rows, read, report, limit)
    _note_labels(report, records, "the better side of a pair has the positive label")
    return records


def _note_labels(report: DataReport, records: Sequence[Demonstration], meaning: str) -> None:
    """Write how labels were read, and how many responses have each."""
    positive = sum(bool(record.desirable) for record in records)
    report.notes.append(
        f"{meaning}: {positive:,} positive and {counted(len(records) - positive, 'negative response')}"
    )
