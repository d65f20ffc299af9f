"""Decide from a calibration round whether the main labelling may start, by stated thresholds. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

CalibrationDecision = Literal["go", "no-go", "unclear"]
MIN_ALPHA_LABELS = 0.667
"""Least alpha of scores and labels for tentative conclusions; 0.8 for firm ones. Source: Krippendorff 2004, p. 241."""
MIN_ALPHA_COMPARISONS = 0.4
"""Least alpha of comparisons: people who agree on 70 % of pairs without ties have 2 × 0.7 − 1. Published preference
data lies around it: 63 % (Bai et al. 2022, arXiv:2204.05862) to 73-77 % (Ouyang et al. 2022, arXiv:2203.02155)."""
MIN_GOLD = 0.75
"""Least share of gold rows that a rater has right, as in a calibration of `harken review`."""


@dataclass(frozen=True, slots=True)
class CalibrationThresholds:
    """Hold the least alpha of all raters together, and the least share of gold rows that each rater has right."""

    alpha: float
    gold: float = MIN_GOLD

    @classmethod
    def for_kind(
        cls, kind: str, alpha: float | None = None, gold: float | None = None
    ) -> CalibrationThresholds:
        """Return the thresholds given, else those of the kind of labels."""
        default_alpha = MIN_ALPHA_COMPARISONS if kind == "comparisons" else MIN_ALPHA_LABELS
        return cls(default_alpha if alpha is None else alpha, MIN_GOLD if gold is None else gold)


def calibration_verdict(report: Mapping[str, Any], thresholds: CalibrationThresholds) -> dict[str, Any]:
    """Return `status`, `why` and the status of each rater from the figures of `rater_report`.

    All together: go if the whole interval of alpha (nominal of comparisons and words, ordinal of scores) reaches the
    threshold, no-go if none of it does, unclear between: more rows decide. One rater: no-go with too few gold rows
    right, unclear without gold. A rater who is no-go makes the round no-go: train or replace them, then repeat it.
    """
    level = "ordinal" if report["kind"] == "scores" else "nominal"
    alpha = report["alpha"].get(level)
    status: CalibrationDecision = "unclear"
    if alpha is None:
        why = "alpha is not defined: no row has two votes, or all votes are equal"
    else:
        alpha_text = (
            f"alpha ({level}) {alpha['value']:.3f}, 95 % interval {alpha['low']:.3f} to {alpha['high']:.3f}"
        )
        if alpha["low"] >= thresholds.alpha:
            status, why = "go", f"{alpha_text}, is at least {thresholds.alpha:g}"
        elif alpha["high"] < thresholds.alpha:
            status, why = "no-go", f"{alpha_text}, is below {thresholds.alpha:g}"
        else:
            why = f"{alpha_text}, includes {thresholds.alpha:g}: label more rows twice"
    raters = {rater["rater"]: _rater(rater["gold"], thresholds) for rater in report["raters"]}
    failed = [name for name, rater in raters.items() if rater["status"] == "no-go"]
    if failed:
        status, why = "no-go", f"{', '.join(failed)}: fewer than {thresholds.gold:.0%} of gold right; {why}"
    return {"status": status, "why": why, "level": level, "thresholds": asdict(thresholds), "raters": raters}


def _rater(gold: Mapping[str, Any] | None, thresholds: CalibrationThresholds) -> dict[str, Any]:
    if gold is None:
        return {"status": "unclear", "why": "no gold rows"}
    right = f"{gold['count']} of {gold['n']} gold rows right"
    return {"status": "go" if gold["value"] >= thresholds.gold else "no-go", "why": right}
