"""Measure how often nominal 95 % intervals cover the truth when there are 2 to 20 clusters, without a least number.

    python benchmarks/few_clusters.py [--studies 4000] [--draws 2000] [--refit-studies 500]

A study has n independent prompts. "normal" differences have mean 0 and variance 1; "skewed" ones are exponential with
mean 1; "rate" are wins with probability 0.7. Data are synthetic, and the truth of each estimand is known. The table
decides `MIN_CLUSTERS` (docs/statistics.md); the standard error of a coverage in 4,000 studies is 0.3 points.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import result

from harken.maths.statistics import bootstrap
from harken.maths.statistics.bootstrap import (
    bca_interval,
    cluster_counts,
    jackknife_ratio,
    percentile_interval,
)
from harken.maths.statistics.intervals import clustered_jeffreys, clustered_mean_interval, wilson_interval
from harken.maths.statistics.length_control import length_controlled_win_rate
from harken.maths.statistics.paired import hodges_lehmann

BATCH = 200
"""Studies that share bootstrap draws."""
WIN_RATE = 0.7

Study = np.ndarray
"""Values of one study, one per prompt."""
Bounds = tuple[float, float]

POPULATIONS: dict[str, tuple[Callable[[np.random.Generator, tuple[int, int]], np.ndarray], float, float]] = {
    "normal": (lambda random, shape: random.normal(0, 1, shape), 0.0, 0.0),
    # The Hodges-Lehmann estimand, the median of (X + X') / 2, a gamma variable of shape 2 and scale 1/2.
    "skewed": (lambda random, shape: random.exponential(1, shape), 1.0, 0.8391734950083308),
}
"""Draws, true mean, true median of pairwise averages."""


def range_bound(n: int) -> float:
    """Return the chance that the range of n values holds their median: the most an interval within it can cover."""
    return 1 - 2.0 ** (1 - n)


def cover_means(kind: str, n: int, studies: int, draws: int) -> dict[str, float]:
    """Return the coverage of each interval of a mean, and of the Hodges–Lehmann shift."""
    make, mean, centre = POPULATIONS[kind]
    random = np.random.default_rng([n, len(kind)])
    hits: dict[str, list[bool]] = {}
    for batch in range(0, studies, BATCH):
        values = make(random, (min(BATCH, studies - batch), n))
        replicates = np.concatenate([counts @ values.T / n for counts in cluster_counts(n, draws, n + batch)])
        for row, own in zip(values, replicates.T, strict=True):
            left = jackknife_ratio(row, np.ones(n))
            t, shift = clustered_mean_interval(row, np.arange(n)), hodges_lehmann(row)
            found = {
                "percentile": (percentile_interval(own, clusters=n), mean),
                "percentile, not expanded": (percentile_interval(own), mean),
                "BCa": (bca_interval(float(row.mean()), own, left, clusters=n), mean),
                "t": ((t.low, t.high), mean),
                "Hodges-Lehmann": ((shift.low, shift.high), centre),
            }
            for name, ((low, high), truth) in found.items():
                hits.setdefault(f"{name}, {kind}", []).append(low <= truth <= high)
    return {name: float(np.mean(each)) for name, each in hits.items()}


def cover_rates(n: int, studies: int, refit_studies: int) -> dict[str, float]:
    """Return the coverage of intervals of a win rate: one row per prompt, four samples per prompt, controlled."""
    random = np.random.default_rng([n, 1])
    wilson, clustered, controlled = [], [], []
    for _ in range(studies):
        low, high = wilson_interval(int((random.random(n) < WIN_RATE).sum()), n)
        wilson.append(low <= WIN_RATE <= high)
        # Each prompt has its own win rate, beta with mean 0.7.
        wins = random.binomial(4, random.beta(3.5, 1.5, n))
        found = clustered_jeffreys(wins, np.full(n, 4.0))
        clustered.append(found.low <= WIN_RATE <= found.high)
    for study in range(refit_studies):
        lengths, outcomes = random.normal(0, 1, n), (random.random(n) < WIN_RATE).astype(float)
        rate = length_controlled_win_rate(outcomes, lengths, np.arange(n), draws=400, seed=study).win_rate
        controlled.append(rate.low <= WIN_RATE <= rate.high)
    return {
        "Wilson, rate": float(np.mean(wilson)),
        "Jeffreys, 4 samples a prompt": float(np.mean(clustered)),
        **({"length-controlled win rate": float(np.mean(controlled))} if controlled else {}),
    }


def main() -> None:
    """Print and write a table with one line per interval and one column per number of clusters."""
    asked = result.arguments(__doc__ or "")
    asked.add_argument("--studies", type=int, default=4000)
    asked.add_argument("--draws", type=int, default=2000)
    asked.add_argument("--refit-studies", type=int, default=500)
    asked.add_argument("--n", type=int, nargs="+", default=[*range(2, 13), 15, 20])
    given = result.parsed(asked, {"studies": 50, "draws": 200, "refit_studies": 5, "n": [2, 6]})
    bootstrap.MIN_CLUSTERS = 2  # the least number is what is measured here
    begun = time.monotonic()
    rows: dict[str, dict[str, float]] = {}
    for n in given.n:
        found = {"most, within the range of the data": range_bound(n)}
        for kind in POPULATIONS:
            found |= cover_means(kind, n, given.studies, given.draws)
        found |= cover_rates(n, given.studies, given.refit_studies)
        for name, coverage in found.items():
            rows.setdefault(name, {})[str(n)] = coverage
        print(n, {name: round(100 * coverage, 1) for name, coverage in found.items()}, flush=True)
    cells = [[name, *(f"{100 * found[str(n)]:.1f}" for n in given.n)] for name, found in rows.items()]
    result.table(["interval, n clusters", *map(str, given.n)], cells)
    print(f"{time.monotonic() - begun:.0f} s")
    result.save("few_clusters", given, {"win_rate": WIN_RATE}, rows)


if __name__ == "__main__":
    main()
