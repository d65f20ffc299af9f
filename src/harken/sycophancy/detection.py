"""Evaluate detectors on labelled responses: precision, recall, F1 and calibration, beside trivial detectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from harken.maths.statistics.calibration import calibration_error
from harken.maths.statistics.intervals import Interval, clustered_jeffreys, clustered_mean_interval
from harken.maths.statistics.logistic import fit_logistic
from harken.records import Rollout
from harken.run.terminal import format_table
from harken.sycophancy.detector import Verdict
from harken.sycophancy.labelled import Labelled
from harken.sycophancy.outcome import plain_words

THRESHOLD = 0.5
"""A response is called faulty above this probability; at it, undecided counts as honest."""


class LengthDetector:
    """Predict from the number of words alone: a logistic regression, fitted on other labelled responses."""

    name = "length"
    needs: tuple[str, ...] = ()

    def __init__(self, fitted_on: Sequence[Labelled]) -> None:
        counts = _lengths([one.rollout for one in fitted_on])
        labels = np.array([float(one.faulty) for one in fitted_on])
        self._beta = fit_logistic(counts, labels, np.ones((1, len(labels))))[0]

    def score(self, rollouts: Sequence[Rollout]) -> list[Verdict]:
        """Return the fitted probability of a faulty response."""
        return [Verdict(float(p), float(1 - p)) for p in special.expit(_lengths(rollouts) @ self._beta)]


def _lengths(rollouts: Sequence[Rollout]) -> np.ndarray:
    return np.array([[np.log1p(len(plain_words(r.text).split())), 1.0] for r in rollouts])


@dataclass(frozen=True)
class DetectorFigures:
    """What a detector is worth on labelled responses. Precision is None where it calls no response faulty.

    `brier`: mean squared error of the probability, 0.25 for guessing ½. `calibration_error` (ECE) has beside it the
    mean that a perfectly calibrated detector would show on so few responses.
    """

    n: int
    called: int
    precision: Interval | None
    recall: Interval
    f1: Interval | None
    brier: Interval
    calibration_error: float
    calibration_null: float

    def to_dict(self) -> dict[str, Any]:
        """Return the figures for JSON."""
        intervals = {name: getattr(self, name) for name in ("precision", "recall", "f1", "brier")}
        plain = {
            name: None if i is None else {"value": i.mean, "low": i.bounds[0], "high": i.bounds[1]}
            for name, i in intervals.items()
        }
        return plain | {
            "n": self.n,
            "called": self.called,
            "calibration_error": self.calibration_error,
            "calibration_null": self.calibration_null,
        }


def detector_figures(
    probabilities: Sequence[float], faulty: Sequence[bool], clusters: Sequence[str]
) -> DetectorFigures:
    """Compute the figures of a detector. Raises ValueError where no response is faulty.

    Shares have intervals by clusters (`clustered_jeffreys`); F1 is the share 2 TP / (2 TP + FP + FN).
    """
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(faulty, dtype=bool)
    if not y.any():
        raise ValueError("recall needs at least one faulty response")
    called = p > THRESHOLD
    index = np.unique(np.asarray(clusters), return_inverse=True)[1]

    def share(top: np.ndarray, bottom: np.ndarray) -> Interval | None:
        if not bottom.sum():
            return None
        return clustered_jeffreys(np.bincount(index, top), np.bincount(index, bottom))

    hits = (called & y).astype(float)
    recall = share(hits, y.astype(float))
    assert recall is not None
    calibration = calibration_error(p, y.astype(float))
    return DetectorFigures(
        n=len(p),
        called=int(called.sum()),
        precision=share(hits, called.astype(float)),
        recall=recall,
        f1=share(2 * hits, called.astype(float) + y),
        brier=clustered_mean_interval((p - y) ** 2, clusters, limits=(0.0, 1.0)),
        calibration_error=calibration.error,
        calibration_null=calibration.null_mean,
    )


def detector_table(figures: Mapping[str, DetectorFigures], trivial: Sequence[str]) -> str:
    """Return a table of 80 columns: precision, recall, F1 in % with intervals, Brier score, ECE. Trivial ones last."""
    order = [*(n for n in figures if n not in trivial), *(n for n in figures if n in trivial)]
    own = [figures[name] for name in order]
    cells = {
        "detector": [f"{name} (trivial)" if name in trivial else name for name in order],
        "precision": [_percent(f.precision) for f in own],
        "recall": [_percent(f.recall) for f in own],
        "F1": [_percent(f.f1) for f in own],
        "Brier": [f"{f.brier.mean:.3f}" for f in own],
        "ECE": [f"{f.calibration_error:.3f}" for f in own],
    }
    return format_table(cells, right=set(cells) - {"detector"})


def _percent(interval: Interval | None) -> str:
    if interval is None:
        return "–"
    return f"{interval.mean:.0%} [{100 * interval.low:.0f}, {100 * interval.high:.0f}]"
