"""The loss of a classifier against PyTorch and scikit-learn, and the area under the curve against its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from sklearn.utils.class_weight import compute_class_weight
from torch.nn.functional import binary_cross_entropy_with_logits

from harken.maths.classifier_loss import class_weights, weighted_cross_entropy
from harken.maths.statistics.auc import auc_interval


def test_the_loss_is_pytorchs_cross_entropy() -> None:
    logits, labels = torch.tensor([2.0, -1.0, 0.3]), torch.tensor([1.0, 0.0, 0.0])
    weights = torch.tensor([1.0, 3.0, 0.5])
    want = binary_cross_entropy_with_logits(logits, labels, weights, reduction="none")
    torch.testing.assert_close(weighted_cross_entropy(logits, labels, weights), want)
    smoothed = binary_cross_entropy_with_logits(
        logits, torch.tensor([0.9, 0.1, 0.1]), weights, reduction="none"
    )
    torch.testing.assert_close(weighted_cross_entropy(logits, labels, weights, 0.1), smoothed)


def test_balanced_weights_are_scikit_learns() -> None:
    labels = np.array([1] * 3 + [0] * 9)
    negative, positive = compute_class_weight("balanced", classes=np.array([0, 1]), y=labels)
    assert class_weights(3, 9, balanced=True) == pytest.approx((positive, negative))
    assert class_weights(3, 9, balanced=True, positive_weight=2.0)[0] == pytest.approx(2 * positive)
    assert class_weights(3, 9, balanced=False, negative_weight=4.0) == (1.0, 4.0)
    with pytest.raises(ValueError, match="both classes"):
        class_weights(0, 9, balanced=True)


def test_the_area_is_scikit_learns_with_ties() -> None:
    draw = np.random.default_rng(3)
    labels = draw.random(80) < 0.4
    scores = np.round(draw.normal(size=80) + labels, 1)
    found = auc_interval(scores, labels, np.arange(80))
    assert found.mean == pytest.approx(roc_auc_score(labels, scores))
    assert 0 < found.low < found.mean < found.high < 1


def test_the_error_is_delongs() -> None:
    """DeLong's variance by its definition: S10 / m + S01 / n."""
    draw = np.random.default_rng(5)
    labels = np.array([True] * 30 + [False] * 50)
    scores = draw.normal(size=80) + labels
    wins = (scores[labels][:, None] > scores[~labels]).astype(float)
    variance = wins.mean(1).var(ddof=1) / 30 + wins.mean(0).var(ddof=1) / 50
    found = auc_interval(scores, labels, np.arange(80))
    logits = np.log([found.low / (1 - found.low), found.high / (1 - found.high)])
    half = (logits[1] - logits[0]) / 2 * found.mean * (1 - found.mean)
    assert half == pytest.approx(1.99 * variance**0.5, rel=0.02)


def test_copies_of_a_cluster_add_no_information() -> None:
    draw = np.random.default_rng(7)
    labels = draw.random(60) < 0.5
    scores = draw.normal(size=60) + labels
    once = auc_interval(scores, labels, np.arange(60))
    copied = auc_interval(np.repeat(scores, 5), np.repeat(labels, 5), np.repeat(np.arange(60), 5))
    assert (copied.low, copied.mean, copied.high) == pytest.approx((once.low, once.mean, once.high))


def test_a_perfect_order_still_has_an_interval() -> None:
    found = auc_interval([1, 2, 3, 4], [0, 0, 1, 1], [1, 2, 3, 4])
    assert found.mean == found.high == 1.0 and 0 < found.low < 0.7
    assert auc_interval([4, 3, 2, 1], [0, 0, 1, 1], [1, 2, 3, 4]).high == pytest.approx(1 - found.low)
    with pytest.raises(ValueError, match="both labels"):
        auc_interval([1, 2], [1, 1], [1, 2])


def test_the_interval_covers_the_true_area() -> None:
    """Clusters of 3 rows with a shared effect; the area of two normals one apart (total sd √2) is Φ(1/2)."""
    draw, hits, true = np.random.default_rng(11), 0, 0.6914625
    clusters, repeats = np.repeat(np.arange(40), 3), 300
    for _ in range(repeats):
        labels = draw.random(120) < 0.5
        scores = labels + draw.normal(size=40)[clusters] + draw.normal(size=120)
        found = auc_interval(scores, labels, clusters)
        hits += found.low <= true <= found.high
    assert 0.91 <= hits / repeats <= 0.99
