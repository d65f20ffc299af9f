"""Measure the calibration of P(A ≻ B): likelihood, Brier score, calibration error, temperature, reliability bins."""

from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np

from harken.card.scored import ScoredPairs, Section
from harken.maths.statistics import calibration

MIN_PAIRS = 20
"""Pairs below which calibration is not computed."""


def calibration_section(scored: ScoredPairs) -> Section | None:
    """Compute the calibration of the pairs, ties and soft labels included; None for fewer than MIN_PAIRS.

    The temperature is fitted on half of the prompts, and `error_after` is measured on the other half.
    """
    if len(scored) < MIN_PAIRS:
        return None
    confidence, outcome = calibration.fold_pairs(scored.gap, scored.label)
    fitted = scored.prompts % 2 == 0
    temperature = (
        calibration.fit_temperature(scored.gap[fitted], scored.label[fitted]) if fitted.any() else None
    )
    error_after = None
    if temperature is not None and (~fitted).any():
        error_after = calibration.calibration_error(
            *calibration.fold_pairs(scored.gap[~fitted], scored.label[~fitted], temperature)
        ).error
    return {
        "pairs": len(scored),
        "mean_probability": float(calibration.preference_probability(scored.gap).mean()),
        "nll": calibration.negative_log_likelihood(scored.gap, scored.label),
        "nll_of_guessing": math.log(2),
        "brier": asdict(calibration.brier_parts(confidence, outcome)),
        "ece": asdict(calibration.calibration_error(confidence, outcome)),
        "temperature": temperature,
        "ece_after_temperature": error_after,
        "bins": [asdict(bin_) for bin_ in calibration.reliability_bins(confidence, outcome)],
    }


def training_calibration(gaps: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Compute the metrics that are logged at each held-out evaluation; {} for fewer than MIN_PAIRS pairs.

    `temperature` is absent if none beats guessing. The null distribution of the error uses few draws for speed.
    """
    if len(gaps) < MIN_PAIRS:
        return {}
    confidence, outcome = calibration.fold_pairs(gaps, labels)
    error = calibration.calibration_error(confidence, outcome, draws=100)
    metrics = {
        "nll": calibration.negative_log_likelihood(gaps, labels),
        "brier": calibration.brier_score(confidence, outcome),
        "ece": error.error,
        "ece_null": error.null_high,
    }
    temperature = calibration.fit_temperature(gaps, labels)
    return metrics if temperature is None else metrics | {"temperature": temperature}
