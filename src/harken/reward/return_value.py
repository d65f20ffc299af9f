"""Convert the value that a user's function returned to a reward.

None                                                       None: no score
a real number: bool, int, float, Decimal, Fraction, NumPy  that number
an array or tensor of one element, on any device            its element
anything else                                              TypeError: text, complex numbers, lists, dicts, generators …
"""

from __future__ import annotations

import inspect
import math
import reprlib
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import torch

_SHORT = reprlib.Repr()
_SHORT.maxother = _SHORT.maxstring = 60


def as_reward(value: Any) -> float | None:
    """Convert a value to a float; None stays None.

    NaN and infinity are kept; numbers outside the float64 range become +-inf.
    Raises TypeError, describing the value and why it is not a reward.
    """
    if value is None:
        return None
    scalar = value
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        size = value.numel() if isinstance(value, torch.Tensor) else value.size
        if size != 1:
            raise TypeError(f"{describe_value(value)}: {size} numbers, but a reward is one")
        scalar = value.item()
    if isinstance(scalar, complex) or not isinstance(scalar, Real | Decimal):
        raise TypeError(f"{describe_value(value)}{_hint(value)}")
    try:
        return float(scalar)
    except OverflowError:
        return math.inf if scalar == abs(scalar) else -math.inf


def describe_value(value: Any) -> str:
    """Describe a value and its type briefly. Never raises, even if its `__repr__` does."""
    kind = type(value).__name__
    if isinstance(value, torch.Tensor | np.ndarray):
        return f"{kind} of shape {tuple(value.shape)}, {value.dtype}"
    try:
        return f"{_SHORT.repr(value)} ({kind})"
    except BaseException:  # noqa: BLE001  a value without a repr is described by its type
        return f"a value of type {kind}"


def _hint(value: Any) -> str:
    if inspect.isawaitable(value):
        return ": write `async def score`, or await it"
    if inspect.isgenerator(value):
        return ": write `return` in place of `yield`"
    if isinstance(value, list | tuple) and len(value) == 1:
        return ": return its element"
    return ""
