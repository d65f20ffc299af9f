"""Values against returns: whether the critic of an update foresaw what came."""

from __future__ import annotations

from statistics import fmean

import torch

from harken.inspection.recorded import RecordedStep
from harken.maths.advantage import explained_variance
from harken.run.terminal import table

FIFTHS = ("lowest values", "low", "middle", "high", "highest values")


def critic_lines(step: RecordedStep) -> list[str]:
    """Explained variance over every token the critic learns from, and mean value and return by fifths of them.

    A critic that can be trusted says in each fifth what came: mean value = mean return. No fifths of values
    that are all the same (a new critic's are 0), and [] without a critic.
    """
    pairs = [
        (value, earned)
        for row in step.credit
        for value, earned, counts in zip(row["values"] or [], row["returns"], row["value_mask"], strict=False)
        if counts
    ]
    pairs.sort(key=lambda pair: pair[0])  # by the value alone: among equal values the return may not decide
    if len(pairs) < len(FIFTHS):
        return []
    values, returns = (torch.tensor(side).unsqueeze(0) for side in zip(*pairs, strict=True))
    explained = float(explained_variance(values, returns, torch.ones_like(values, dtype=torch.bool)))
    where = f"the {len(pairs)} tokens of {len(step.credit)} answers"
    if pairs[0][0] == pairs[-1][0]:
        return [
            f"critic: explained variance {explained:+.3f} over {where}, {pairs[0][0]:+.3f} for each of them"
        ]
    lines = [
        f"critic: explained variance {explained:+.3f} over {where}",
    ]
    means = []
    for number in range(len(FIFTHS)):
        part = pairs[number * len(pairs) // len(FIFTHS) : (number + 1) * len(pairs) // len(FIFTHS)]
        means.append([f"{fmean(side):+.3f}" for side in zip(*part, strict=True)])
    cells = {
        "tokens, by fifths": FIFTHS,
        "value": [value for value, _ in means],
        "return": [earned for _, earned in means],
    }
    return [*lines, *table(cells, right={"value", "return"}).splitlines()]
