"""Estimate the gain from more pairs and fewer flipped labels, with a linear head on frozen features of the base.

This is a cheap substitute for training again on part of the pairs: a Bradley–Terry head on the base model's last hidden
state (no adapter), fitted on 1/8 … 1 of the training pairs, and on pairs of which a share has its label flipped. The
level is below that of a trained adapter; the slope shows whether more pairs still help.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harken import seeds
from harken.card.baselines import fit_pair_weights
from harken.card.scored import RewardArray, ScoredPairs, Section

FRACTIONS = (1 / 8, 1 / 4, 1 / 2, 1.0)
FLIPPED = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
HEAD_L2 = 1.0
MIN_TRAINING_PAIRS = 16


def learning_curve(
    training: RewardArray, labels: RewardArray, held_out: RewardArray, scored: ScoredPairs, seed: int
) -> Section | None:
    """Compute held-out accuracy at every fraction of the pairs, and at every share of flipped labels.

    `training` and `held_out` [pairs, features]: features of chosen minus those of rejected. `labels` are those of the
    training pairs; `scored` holds the held-out pairs. Features are scaled by their root mean square over the training
    pairs, without centring: swapping the sides must flip the verdict. None for too few pairs.
    """
    if len(training) < MIN_TRAINING_PAIRS or not scored.decided.any():
        return None
    scale = np.sqrt((training**2).mean(0))
    scale[scale == 0] = 1.0
    x, test = training / scale / len(scale) ** 0.5, held_out / scale / len(scale) ** 0.5
    order = seeds.permutation(len(x), seed, "learning curve")
    flip_order = seeds.permutation(len(x), seed, "flipped labels")

    def accuracy(chosen: Sequence[int], label: RewardArray) -> Section:
        weights = fit_pair_weights(x[list(chosen)], label[list(chosen)], HEAD_L2 / len(scale))
        section = scored.accuracy(((test @ weights) * scored.side) > 0)
        assert section is not None
        return {"training_pairs": len(chosen), **section}

    curve = [accuracy(order[: max(round(len(x) * fraction), 2)], labels) for fraction in FRACTIONS]
    flip_curve = []
    for share in FLIPPED:
        label = labels.copy()
        flipped = flip_order[: round(len(x) * share)]
        label[flipped] = 1 - label[flipped]
        flip_curve.append({"flipped": share, **accuracy(order, label)})
    return {
        "method": "linear head on frozen features of the base",
        "curve": curve,
        "flipped_labels": flip_curve,
    }
