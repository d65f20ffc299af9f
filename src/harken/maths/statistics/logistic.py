"""Fit logistic regressions, one per row of weights, by Newton's method."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

PRIOR_L2 = 0.01
"""Strength of the Gaussian prior of a coefficient: finite estimates when one side wins always."""
NEWTON_STEPS = 100
LARGEST_STEP = 4.0
"""Largest change of a coefficient in one step, which keeps a first step from a flat region within reach."""
NEWTON_TOLERANCE = 1e-10
"""Newton's method has converged when no coefficient moves by more."""

Array = NDArray[np.float64]


def fit_logistic(
    features: Array, labels: Array, weights: Array, l2: float = PRIOR_L2, start: Array | None = None
) -> Array:
    """Maximise Σ w_i [y_i log σ(x_i·β) + (1 − y_i) log σ(−x_i·β)] − l2 ‖β‖² / 2 for every row of weights.

    `features` is [rows, p], without an implied intercept; `labels` are in [0, 1], so that a tie can be ½; `weights`
    is [fits, rows]. Returns β, [fits, p]. `start` is a first β, [p].
    Raises ValueError when Newton's method does not converge: with l2 = 0 there may be no finite maximum.
    """
    parameters = features.shape[1]
    beta = np.tile(np.zeros(parameters) if start is None else start, (len(weights), 1))
    upper = np.triu_indices(parameters)
    products = features[:, upper[0]] * features[:, upper[1]]
    ridge = l2 * np.eye(parameters)
    weighted_labels = (weights * labels) @ features
    for _ in range(NEWTON_STEPS):
        chances = special.expit(beta @ features.T)
        chances_weighted = weights * chances
        gradient = weighted_labels - chances_weighted @ features - l2 * beta
        hessian = np.empty((len(weights), parameters, parameters))
        curvature = (chances_weighted * (1 - chances)) @ products
        hessian[:, upper[0], upper[1]] = curvature
        hessian[:, upper[1], upper[0]] = curvature
        step = _solve(hessian + ridge, gradient)
        beta += np.clip(step, -LARGEST_STEP, LARGEST_STEP)
        if float(np.abs(step).max()) < NEWTON_TOLERANCE:
            return beta
    raise ValueError("the logistic regression does not converge: one side wins always, and there is no prior")


def _solve(matrices: NDArray[Any], vectors: NDArray[Any]) -> Array:
    try:
        solved: Array = np.linalg.solve(matrices, vectors[..., None])[..., 0]
    except np.linalg.LinAlgError as error:
        raise ValueError(f"the logistic regression has no unique maximum ({error})") from error
    return solved
