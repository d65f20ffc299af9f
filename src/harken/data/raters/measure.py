"""Measure the agreement of the raters of a file and decide go or no-go, as `harken data agreement` does. No torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from harken.data.raters.agreement_report import rater_report
from harken.data.raters.agreement_table import rater_lines
from harken.data.raters.calibration_verdict import CalibrationThresholds, calibration_verdict
from harken.data.raters.rated_rows import DEFAULT_COLUMNS, RaterColumns, read_rated_rows

ADVISED_CALIBRATION = "20 to 30 % of the budget"


@dataclass(frozen=True)
class MeasuredAgreement:
    """Hold the figures of `rater_report` and the verdict on the calibration round."""

    report: dict[str, Any]
    verdict: dict[str, Any]

    def lines(self, width: int = 80) -> list[str]:
        """Return the tables and findings for a terminal."""
        lines = rater_lines(self.report, self.verdict, width)
        if (rows := self.verdict["calibration_rows"]) is not None:
            share = rows / self.report["rows"]
            lines.append(
                f"  by the first {rows:,} rows, {share:.0%} of the file (advised: {ADVISED_CALIBRATION})"
            )
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Return all as JSON."""
        return {**self.report, "calibration": self.verdict}


def measure_raters(
    path: str,
    columns: RaterColumns = DEFAULT_COLUMNS,
    *,
    calibration: int | None = None,
    min_alpha: float | None = None,
    min_gold: float | None = None,
    seed: int = 0,
) -> MeasuredAgreement:
    """Read a file of labels and measure it. `calibration`: decide by so many first rows; None: by all.

    Raises UserError as `read_rated_rows` does.
    """
    rated = read_rated_rows(path, columns)
    report = rater_report(rated, seed=seed)
    thresholds = CalibrationThresholds.for_kind(rated.kind, min_alpha, min_gold)
    first = (
        report
        if calibration is None
        else rater_report(replace(rated, rows=rated.rows[:calibration]), seed=seed)
    )
    rows = None if calibration is None else min(calibration, len(rated.rows))
    return MeasuredAgreement(report, {**calibration_verdict(first, thresholds), "calibration_rows": rows})
