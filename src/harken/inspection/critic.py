"""Compare the critic's values with the returns of an update."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any

import torch

from harken.inspection.recorded import RecordedStep
from harken.maths.advantage import explained_variance
from harken.run.terminal import format_table

CRITIC_BINS = 20
QUINTILES = ("lowest values", "low", "middle", "high", "highest values")


def critic_lines(step: RecordedStep) -> list[str]:
    """Print the explained variance over all tokens of the value mask, and mean value and return per quintile of values.

    For a calibrated critic the two means agree in each quintile. If all values are equal (a new critic predicts 0
    everywhere), the quintiles are left out. Returns [] without a critic.
    """
    pairs = _value_return_pairs(step)
    if len(pairs) < len(QUINTILES):
        return []
    explained = _explained(pairs)
    where = f"the {len(pairs)} tokens of {len(step.credit)} responses"
    if pairs[0][0] == pairs[-1][0]:
        return [
            f"critic: explained variance {explained:+.3f} over {where}, {pairs[0][0]:+.3f} for each of them"
        ]
    lines = [
        f"critic: explained variance {explained:+.3f} over {where}",
    ]
    means = [
        [f"{fmean(side):+.3f}" for side in zip(*part, strict=True)] for part in _parts(pairs, len(QUINTILES))
    ]
    cells = {
        "tokens, by quintile": QUINTILES,
        "value": [value for value, _ in means],
        "return": [return_ for _, return_ in means],
    }
    return [*lines, *format_table(cells, right={"value", "return"}).splitlines()]


def critic_data(step: RecordedStep) -> dict[str, Any] | None:
    """Return the critic's values against the returns of an update as page data, in bins of equally many tokens.

    None without a critic, where all values or all returns are equal, and for fewer tokens than bins.
    """
    pairs = _value_return_pairs(step)
    if len(pairs) < CRITIC_BINS or pairs[0][0] == pairs[-1][0]:
        return None
    bins = []
    for part in _parts(pairs, CRITIC_BINS):
        returns = sorted(return_ for _, return_ in part)
        low, high = (returns[round(share * (len(returns) - 1))] for share in (0.1, 0.9))
        means = {
            "value": fmean(value for value, _ in part),
            "return": fmean(returns),
            "low": low,
            "high": high,
        }
        bins.append({name: round(number, 4) for name, number in means.items()})
    explained = _explained(pairs)
    if not math.isfinite(explained):
        return None
    return {"tokens": len(pairs), "explained": round(explained, 4), "bins": bins}


def _value_return_pairs(step: RecordedStep) -> list[tuple[float, float]]:
    """Return (value, return) of every token of the value mask, by ascending value; [] without a critic."""
    pairs = [
        (value, return_)
        for row in step.credit
        for value, return_, counts in zip(
            row["values"] or [], row["returns"], row["value_mask"], strict=False
        )
        if counts and math.isfinite(value) and math.isfinite(return_)
    ]
    return sorted(
        pairs, key=lambda pair: pair[0]
    )  # by value alone: sorting ties by return would bias the parts


def _explained(pairs: Sequence[tuple[float, float]]) -> float:
    values, returns = (torch.tensor(side).unsqueeze(0) for side in zip(*pairs, strict=True))
    return float(explained_variance(values, returns, torch.ones_like(values, dtype=torch.bool)))


def _parts(pairs: Sequence[tuple[float, float]], count: int) -> Iterator[Sequence[tuple[float, float]]]:
    """Yield the pairs in `count` parts of equal size, up to one."""
    for number in range(count):
        yield pairs[number * len(pairs) // count : (number + 1) * len(pairs) // count]
