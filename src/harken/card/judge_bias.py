"""Measure how far a reward model learnt what its judge's labels favour: length and style. No torch.

Only pairs that a judge labelled count (`harken label`). Every such pair was asked in both orders, so a preference for a
position is not in its label.
"""

from __future__ import annotations

import numpy as np

from harken.card.scored import ScoredPairs, Section
from harken.data.pair_features import JUDGE_RATER, PAIR_FEATURES
from harken.maths.statistics.intervals import clustered_jeffreys
from harken.records import Preference

BIASED = 0.75
"""Share of pairs that the judge decides for a feature (lower bound) from which its labels are called biased."""


def judge_bias_section(scored: ScoredPairs) -> Section | None:
    """Compare judge and model on the pairs that a judge labelled; None without any.

    For each feature, over the pairs whose sides differ in it: `judge`, the share in which the label prefers the side
    with more of it, and `model`, the share in which the model does; 95 % intervals clustered by prompt.
    """
    mask = np.array([_is_judged(pair) for pair in scored.pairs], dtype=np.bool_)
    judged = scored.select(mask & scored.decided)
    if not len(judged):
        return None
    pairs = [pair for pair in judged.pairs if isinstance(pair, Preference)]
    features = {}
    for name, (_, count) in PAIR_FEATURES.items():
        gaps = np.array([np.sign(count(pair.chosen) - count(pair.rejected)) for pair in pairs])
        differ = gaps != 0
        if differ.any():
            clusters = judged.prompts[differ]
            features[name] = {
                "pairs": int(differ.sum()),
                "judge": _share((gaps * judged.side)[differ] > 0, clusters),
                "model": _share((gaps * np.sign(judged.gap))[differ] > 0, clusters),
            }
    raters = sorted({pair.rater.removeprefix(JUDGE_RATER) for pair in pairs})
    return {"judges": raters, "pairs": len(pairs), "features": features}


def learnt_biases(section: Section | None) -> list[tuple[str, Section]]:
    """Return the features that the labels are biased to and that the model prefers too, the strongest first."""
    features = {} if section is None else section["features"]
    found = [
        (name, feature)
        for name, feature in features.items()
        if feature["judge"]["low"] > BIASED and feature["model"]["low"] > 0.5
    ]
    return sorted(found, key=lambda one: -one[1]["judge"]["share"])


def _is_judged(pair: object) -> bool:
    return isinstance(pair, Preference) and pair.rater.startswith(JUDGE_RATER)


def _share(true: np.ndarray, clusters: np.ndarray) -> Section:
    index = np.unique(clusters, return_inverse=True)[1]
    found = clustered_jeffreys(np.bincount(index, true), np.bincount(index))
    return {"share": found.mean, "low": found.low, "high": found.high}
