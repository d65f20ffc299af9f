"""Measure how far a reward model learnt the biases of its judge's labels: length and style. No torch.

Only pairs that a judge labelled count (`harken label`). Every such pair was asked in both orders, so a preference for a
position is not in its label.
"""

from __future__ import annotations

import numpy as np

from harken.card.scored import ScoredPairs, Section
from harken.data.pair_features import JUDGE_RATER, LENGTH_FEATURE, PAIR_FEATURES
from harken.maths.statistics.intervals import clustered_jeffreys
from harken.records import Preference

BIASED = 0.75
"""Share of pairs (lower bound) that the judge decides for a feature, from which its labels count as biased."""


def judge_bias_section(scored: ScoredPairs) -> Section | None:
    """Compare judge and model on the pairs that a judge labelled; None without any.

    For each feature, over the pairs whose sides differ in it: `judge`, the share in which the label prefers the side
    with more of it, and `model`, the share in which the model does; 95 % intervals clustered by prompt. A feature
    other than length also has `where_shorter`: the same over those of its pairs in which the side with more of it is
    the shorter one (None without any), because most features grow with length.
    """
    mask = np.array([_is_judged(pair) for pair in scored.pairs], dtype=np.bool_)
    judged = scored.select(mask & scored.decided)
    if not len(judged):
        return None
    pairs = [pair for pair in judged.pairs if isinstance(pair, Preference)]
    gaps = {
        name: np.array([np.sign(count(pair.chosen) - count(pair.rejected)) for pair in pairs])
        for name, (_, count) in PAIR_FEATURES.items()
    }
    features = {}
    for name, gap in gaps.items():
        shares = _shares(judged, gap, gap != 0)
        if shares is not None and name != LENGTH_FEATURE:
            shares["where_shorter"] = _shares(judged, gap, gap * gaps[LENGTH_FEATURE] < 0)
        if shares is not None:
            features[name] = shares
    raters = sorted({pair.rater.removeprefix(JUDGE_RATER) for pair in pairs})
    return {"judges": raters, "pairs": len(pairs), "features": features}


def learnt_biases(section: Section | None) -> list[tuple[str, Section]]:
    """Return the features that the labels are biased to and that the model prefers too, the strongest first.

    A feature that the labels reject where the shorter response has more of it is left out: they follow the length.
    """
    features = {} if section is None else section["features"]
    learnt = [
        (name, feature)
        for name, feature in features.items()
        if feature["judge"]["low"] > BIASED and feature["model"]["low"] > 0.5 and not _is_length(feature)
    ]
    return sorted(learnt, key=lambda entry: -entry[1]["judge"]["share"])


def _is_length(feature: Section) -> bool:
    shorter = feature.get("where_shorter")
    return shorter is not None and bool(shorter["judge"]["high"] < 0.5)


def _is_judged(pair: object) -> bool:
    return isinstance(pair, Preference) and pair.rater.startswith(JUDGE_RATER)


def _shares(judged: ScoredPairs, gap: np.ndarray, mask: np.ndarray) -> Section | None:
    """Return how often label and model prefer the side with more of a feature, over the pairs that are kept."""
    if not mask.any():
        return None
    clusters = judged.prompts[mask]
    return {
        "pairs": int(mask.sum()),
        "judge": _share((gap * judged.side)[mask] > 0, clusters),
        "model": _share((gap * np.sign(judged.gap))[mask] > 0, clusters),
    }


def _share(preferred: np.ndarray, clusters: np.ndarray) -> Section:
    index = np.unique(clusters, return_inverse=True)[1]
    interval = clustered_jeffreys(np.bincount(index, preferred), np.bincount(index))
    return {"share": interval.mean, "low": interval.low, "high": interval.high}
