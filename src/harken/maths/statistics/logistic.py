"""Fit logistic regressions, one per row of weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from harken.maths.statistics.newton import maximize_concave

PRIOR_L2 = 0.01
"""Strength of the Gaussian prior of a coefficient: finite estimates when one side wins always."""

Array = NDArray[np.float64]


def fit_logistic(
    features: Array, labels: Array, weights: Array, l2: float = PRIOR_L2, start: Array | None = None
) -> Array:
    """Maximise Σ w_i [y_i log σ(x_i·β) + (1 − y_i) log σ(−x_i·β)] − l2 ‖β‖² / 2 for every row of weights.

    `features` is [rows, p], without an implied intercept; `labels` are in [0, 1], so that a tie can be ½; `weights`
    is [fits, rows]. Returns β, [fits, p]. `start` is the initial β, [p].
    Raises ValueError when there is no finite or no unique maximum, which l2 > 0 rules out.
    Source: McCullagh and Nelder 1989, Generalized Linear Models, section 4.4.
    """
    parameters = features.shape[1]
    upper = np.triu_indices(parameters)
    products = features[:, upper[0]] * features[:, upper[1]]
    ridge = l2 * np.eye(parameters)
    observed = (weights * labels) @ features

    def derivatives(beta: Array) -> tuple[Array, Array]:
        chances = special.expit(beta @ features.T)
        expected = weights * chances
        information = np.empty((len(weights), parameters, parameters))
        curvature = (expected * (1 - chances)) @ products
        information[:, upper[0], upper[1]] = curvature
        information[:, upper[1], upper[0]] = curvature
        return observed - expected @ features - l2 * beta, information + ridge

    first = np.zeros(parameters) if start is None else start
    return maximize_concave(np.tile(first, (len(weights), 1)), derivatives)
