"""Compare the critic's values with the returns of an update."""

from __future__ import annotations

from statistics import fmean

import torch

from harken.inspection.recorded import RecordedStep
from harken.maths.advantage import explained_variance
from harken.run.terminal import format_table

QUINTILES = ("lowest values", "low", "middle", "high", "highest values")


def critic_lines(step: RecordedStep) -> list[str]:
    """Print the explained variance over all tokens of the value mask, and mean value and return per quintile of values.

    For a calibrated critic the two means agree in each quintile. If all values are equal (a new critic predicts 0
    everywhere), the quintiles are left out. Returns [] without a critic.
    """
    pairs = [
        (value, return_)
        for row in step.credit
        for value, return_, counts in zip(
            row["values"] or [], row["returns"], row["value_mask"], strict=False
        )
        if counts
    ]
    pairs.sort(key=lambda pair: pair[0])  # by value alone: sorting ties by return would bias the quintiles
    if len(pairs) < len(QUINTILES):
        return []
    values, returns = (torch.tensor(side).unsqueeze(0) for side in zip(*pairs, strict=True))
    explained = float(explained_variance(values, returns, torch.ones_like(values, dtype=torch.bool)))
    where = f"the {len(pairs)} tokens of {len(step.credit)} responses"
    if pairs[0][0] == pairs[-1][0]:
        return [
            f"critic: explained variance {explained:+.3f} over {where}, {pairs[0][0]:+.3f} for each of them"
        ]
    lines = [
        f"critic: explained variance {explained:+.3f} over {where}",
    ]
    means = []
    for number in range(len(QUINTILES)):
        part = pairs[number * len(pairs) // len(QUINTILES) : (number + 1) * len(pairs) // len(QUINTILES)]
        means.append([f"{fmean(side):+.3f}" for side in zip(*part, strict=True)])
    cells = {
        "tokens, by quintile": QUINTILES,
        "value": [value for value, _ in means],
        "return": [return_ for _, return_ in means],
    }
    return [*lines, *format_table(cells, right={"value", "return"}).splitlines()]
