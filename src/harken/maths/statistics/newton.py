"""Maximise many concave functions at once by Newton's method with step halving."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

NEWTON_STEPS = 200
NEWTON_TOLERANCE = 1e-10
"""Newton's method has converged when no parameter moves by more than this."""

Array = NDArray[np.float64]


def maximize_concave(
    start: Array,
    derivatives: Callable[[Array], tuple[Array, Array]],
    inside: Callable[[Array], NDArray[np.bool_]] | None = None,
) -> Array:
    """Return the maximum of each of several concave functions, [fits, p], from a start of this shape.

    `derivatives` returns the gradients [fits, p] and the negative Hessians [fits, p, p] at given parameters; `inside`
    marks the fits whose parameters are within the domain. A step is halved while it leaves the domain, or passes the
    maximum along its line so far that the function falls about as steeply as it rose.
    Raises ValueError when a function has no finite or no unique maximum.
    Source: Nocedal and Wright 2006, Numerical Optimization, section 3.1.
    """
    x, previous = start.copy(), start.copy()
    step, slope = np.zeros_like(start), np.zeros(len(start))
    for _ in range(NEWTON_STEPS):
        if inside is not None:
            while not (valid := inside(x)).all():
                step[~valid] /= 2
                slope[~valid] /= 2
                x[~valid] = previous[~valid] + step[~valid]
        gradient, information = derivatives(x)
        # Rounding decides the sign of a slope of about 0.
        too_far = ((gradient * step).sum(axis=1) < -0.9 * slope) & (slope > 1e-9)
        try:
            newton = np.asarray(np.linalg.solve(information, gradient[..., None])[..., 0], dtype=np.float64)
        except np.linalg.LinAlgError as error:
            raise ValueError(f"the likelihood has no unique maximum ({error})") from error
        step[...] = np.where(too_far[:, None], step / 2, newton)
        slope[...] = np.where(too_far, slope / 2, (gradient * newton).sum(axis=1))
        previous[...] = np.where(too_far[:, None], previous, x)
        x[...] = previous + step
        if not too_far.any() and float(np.abs(step).max()) < NEWTON_TOLERANCE:
            return x
    raise ValueError("the likelihood has no finite maximum: one side wins always, and there is no prior")
