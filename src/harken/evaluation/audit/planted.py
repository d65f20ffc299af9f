"""Measure the recall and precision of the audit on texts whose failures are known.

    python -m harken.evaluation.audit.planted

prints the table for the shipped set: 20 texts of each of 20 kinds, and 400 texts without a failure.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from harken.config.audit import AuditSettings
from harken.evaluation.audit.keys import ResponseRows, key_of
from harken.evaluation.audit.kinds import KINDS
from harken.evaluation.audit.response import DEFAULT
from harken.evaluation.audit.rows import audit


@dataclass(frozen=True, slots=True)
class Detection:
    """Results of a detector: planted texts found and missed, and rows that it flagged falsely."""

    kind: str
    found: int
    missed: tuple[str, ...]
    false: tuple[str, ...]

    @property
    def recall(self) -> float:
        """Return found ÷ planted."""
        return self.found / (self.found + len(self.missed))

    @property
    def precision(self) -> float:
        """Return found ÷ (found + falsely flagged); 1 when nothing was flagged."""
        flagged = self.found + len(self.false)
        return self.found / flagged if flagged else 1.0


def planted_rows() -> list[dict[str, Any]]:
    """Return the shipped planted texts, as rows of `responses.parquet` with "kind" and "also".

    `kind` is the failure that was planted, "" for none; `also` lists further kinds that
    the text may have because of the way it was made: a loop is repetition, too.
    """
    packed = files("harken.evaluation.audit").joinpath("planted.jsonl.gz").read_bytes()
    return [json.loads(line) for line in gzip.decompress(packed).decode().split("\n") if line]


def detection_rates(rows: ResponseRows, thresholds: AuditSettings = DEFAULT) -> list[Detection]:
    """Audit rows with known failures and count what was found of each kind.

    A flag is a false positive when its kind is neither the row's `kind` nor in its `also`.
    """
    audited = audit(rows, "Base", thresholds)
    detections = []
    for kind in KINDS:
        planted = [row for row in rows if row["kind"] == kind]
        missed = [row["prompt_id"] for row in planted if kind not in audited[key_of(row)]["flags"]]
        false = [
            row["prompt_id"]
            for row in rows
            if kind != row["kind"] and kind not in row["also"] and kind in audited[key_of(row)]["flags"]
        ]
        detections.append(Detection(kind, len(planted) - len(missed), tuple(missed), tuple(false)))
    return detections


def format_rates(detections: Sequence[Detection]) -> str:
    """Return a table of recall and precision, kind by kind."""
    lines = [f"{'kind':<22}{'planted':>8}{'found':>7}{'false':>7}{'recall':>8}{'precision':>11}"]
    lines += [
        f"{row.kind:<22}{row.found + len(row.missed):>8}{row.found:>7}{len(row.false):>7}"
        f"{row.recall:>8.2f}{row.precision:>11.2f}"
        for row in detections
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(format_rates(detection_rates(planted_rows())))
