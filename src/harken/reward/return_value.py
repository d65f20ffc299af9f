"""What a user's function returned → a reward.

None                                                       no opinion
a real number: bool, int, float, Decimal, Fraction, NumPy  that number
an array or tensor of one element, wherever it is           its element
anything else                                              refused: text, complex numbers, lists, dicts, generators …
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
    """The value as a Python float, None for None. It may be NaN or infinite; a number beyond float64 is infinite.

    Raises TypeError, with what was returned and why it is no reward.
    """
    if value is None:
        return None
    number = value
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        size = value.numel() if isinstance(value, torch.Tensor) else value.size
        if size != 1:
            raise TypeError(f"{shown(value)}: {size} numbers, and a reward is one")
        number = value.item()
    if isinstance(number, complex) or not isinstance(number, Real | Decimal):
        raise TypeError(f"{shown(value)}{_hint(value)}")
    try:
        return float(number)
    except OverflowError:
        return math.inf if number == abs(number) else -math.inf


def shown(value: Any) -> str:
    """A value and its type in a few words. Never raises, whatever its `__repr__` does."""
    kind = type(value).__name__
    if isinstance(value, torch.Tensor | np.ndarray):
        return f"{kind} of shape {tuple(value.shape)}, {value.dtype}"
    try:
        return f"{_SHORT.repr(value)} ({kind})"
    except BaseException:  # noqa: BLE001  a value that cannot be printed is told by its type
        return f"a value of type {kind}"


def _hint(value: Any) -> str:
    if inspect.isawaitable(value):
        return ": write `async def score`, or await it"
    if inspect.isgenerator(value):
        return ": write `return` in place of `yield`"
    if isinstance(value, list | tuple) and len(value) == 1:
        return ": return its element"
    return ""
