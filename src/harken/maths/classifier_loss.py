"""Compute the loss of a binary classifier, one value per row."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid


def weighted_cross_entropy(
    logits: Float[Tensor, " rows"],
    labels: Float[Tensor, " rows"],
    weights: Float[Tensor, " rows"],
    label_smoothing: float = 0.0,
) -> Float[Tensor, " rows"]:
    """Compute weight × binary cross-entropy, in nats; `labels` are 1 or 0, `logits` the log-odds of 1.

    w (−t log σ(z) − (1 − t) log σ(−z)), with t = (1 − 2ε) label + ε. Label smoothing: Szegedy et al. 2016
    (arXiv:1512.00567), section 7, with two classes.
    """
    targets = labels * (1 - 2 * label_smoothing) + label_smoothing
    return weights * (-targets * logsigmoid(logits) - (1 - targets) * logsigmoid(-logits))


def class_weights(
    positive: int,
    negative: int,
    *,
    balanced: bool,
    positive_weight: float = 1.0,
    negative_weight: float = 1.0,
) -> tuple[float, float]:
    """Return the weights of positive and negative rows; balanced: n / (2 n_class), so that their mean is 1.

    Source of the balanced weights: King and Zeng 2001, "Logistic regression in rare events data"; scikit-learn's
    class_weight="balanced". Raises ValueError where balanced weights need a row of each class.
    """
    if not balanced:
        return positive_weight, negative_weight
    if not (positive and negative):
        raise ValueError("balanced weights need rows of both classes")
    rows = positive + negative
    return positive_weight * rows / (2 * positive), negative_weight * rows / (2 * negative)
