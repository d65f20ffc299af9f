"""Measure how often nominal 95 % intervals of a comparison cover the truth, in simulated studies.

    python benchmarks/coverage_simulation.py [--studies 2000] [--draws 2000] [--lc-studies 500]

A study has n prompts and two policies. The difference of the two rewards is μ + family + noise; below a threshold it
is a tie. μ and the threshold are chosen so that 5 % of the rows are ties and a share p of the others are wins.
"clusters" puts prompts into families of 1 to 3 that share a third of the variance. The data are synthetic, and the
truth of each estimand is known. The standard error of a
coverage in 2,000 studies is 0.5 points.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import result
from scipy import integrate, optimize, special, stats

from harken.maths.statistics.bootstrap import (
    bca_interval,
    cluster_counts,
    jackknife_ratio,
    percentile_interval,
)
from harken.maths.statistics.intervals import clustered_jeffreys, wilson_interval
from harken.maths.statistics.length_control import length_controlled_win_rate
from harken.maths.statistics.paired import hodges_lehmann

TIES = 0.05
FAMILY_SHARE = 1 / 3
"""Share of the variance of a difference that prompts of one family have in common."""
BATCH = 100
"""Studies that share bootstrap draws. Their intervals do not depend on how many share them."""
NOMINAL, LOW, HIGH = 0.95, 0.935, 0.965
LENGTH_EFFECT = 1.0


@dataclass(frozen=True)
class Truth:
    """Hold the parameters of a population and the true value of each estimand."""

    mean: float
    threshold: float
    estimands: Mapping[str, float]


def population(p: float) -> Truth:
    """Solve for the mean and the threshold of a normal difference (variance 1) that give p and the share of ties."""

    def shares(at: np.ndarray) -> list[float]:
        mean, threshold = at
        win, loss = stats.norm.sf(threshold - mean), stats.norm.cdf(-threshold - mean)
        return [1 - win - loss - TIES, win - p * (win + loss)]

    mean, threshold = optimize.fsolve(shares, [stats.norm.ppf(p), 0.1], xtol=1e-12)
    tied = integrate.quad(lambda d: d * stats.norm.pdf(d - mean), -threshold, threshold)[0]
    win = p * (1 - TIES)
    random = np.random.default_rng(0)
    averages = np.zeros(20_000_000)
    for _ in range(2):
        d = random.normal(mean, 1, len(averages))
        averages += np.where(np.abs(d) > threshold, d, 0) / 2
    return Truth(
        mean,
        threshold,
        {
            "win rate": win,
            "win rate without ties": p,
            "win share, ties as half": win + TIES / 2,
            "mean difference": mean - tied,
            "Hodges-Lehmann": float(np.median(averages)),
        },
    )


def families(n: int, clusters: bool, random: np.random.Generator) -> np.ndarray:
    """Return the family of each prompt: itself, or one of families of 1, 2 and 3 prompts."""
    if not clusters:
        return np.arange(n)
    return np.repeat(np.arange(n), random.integers(1, 4, n))[:n]


def differences(truth: Truth, family: np.ndarray, studies: int, random: np.random.Generator) -> np.ndarray:
    """Return differences of rewards [studies, prompts], 0 for a tie."""
    shared = random.normal(0, FAMILY_SHARE**0.5, (studies, family.max() + 1))[:, family]
    d = truth.mean + shared + random.normal(0, (1 - FAMILY_SHARE) ** 0.5, shared.shape)
    return np.where(np.abs(d) > truth.threshold, d, 0.0)


def cover(truth: Truth, n: int, clusters: bool, studies: int, draws: int, seed: int) -> dict[str, float]:
    """Return the coverage of each interval."""
    random = np.random.default_rng(seed)
    covered: dict[str, list[bool]] = {}
    for batch in range(0, studies, BATCH):
        family = families(n, clusters, random)
        size = np.bincount(family).astype(float)
        d = differences(truth, family, min(BATCH, studies - batch), random)
        sums = np.stack([np.bincount(family, row) for row in d], axis=1)
        resampled = np.concatenate(
            [
                (counts @ sums) / (counts @ size)[:, None]
                for counts in cluster_counts(len(size), draws, seed + batch)
            ]
        )
        for number, row in enumerate(d):
            replicates = resampled[:, number]
            for name, (estimand, make) in INTERVALS.items():
                if name.startswith("Wilson") and clusters:
                    continue
                low, high = make(row, family, size, replicates)
                covered.setdefault(name, []).append(low <= truth.estimands[estimand] <= high)
    return {name: float(np.mean(hits)) for name, hits in covered.items()}


def _jeffreys(hits: np.ndarray, of: np.ndarray, family: np.ndarray) -> tuple[float, float]:
    found = clustered_jeffreys(np.bincount(family, hits * of), np.bincount(family, of))
    return found.low, found.high


def _hodges_lehmann(d: np.ndarray, family: np.ndarray) -> tuple[float, float]:
    found = hodges_lehmann(d, clusters=family if len(family) > family.max() + 1 else None)
    return found.low, found.high


Bounds = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], tuple[float, float]]

INTERVALS: dict[str, tuple[str, Bounds]] = {
    "Wilson: win rate": ("win rate", lambda d, f, s, r: wilson_interval(int((d > 0).sum()), len(d))),
    "Wilson: win rate without ties": (
        "win rate without ties",
        lambda d, f, s, r: wilson_interval(int((d > 0).sum()), int((d != 0).sum())),
    ),
    "Jeffreys: win rate": ("win rate", lambda d, f, s, r: _jeffreys(d > 0, np.ones(len(d)), f)),
    "Jeffreys: without ties": (
        "win rate without ties",
        lambda d, f, s, r: _jeffreys(d > 0, (d != 0).astype(float), f),
    ),
    "Jeffreys: ties as half": (
        "win share, ties as half",
        lambda d, f, s, r: _jeffreys((np.sign(d) + 1) / 2, np.ones(len(d)), f),
    ),
    "percentile bootstrap, plain": ("mean difference", lambda d, f, s, r: percentile_interval(r)),
    "percentile bootstrap": ("mean difference", lambda d, f, s, r: percentile_interval(r, clusters=len(s))),
    "BCa bootstrap, plain": (
        "mean difference",
        lambda d, f, s, r: bca_interval(float(d.mean()), r, jackknife_ratio(np.bincount(f, d), s)),
    ),
    "BCa bootstrap": (
        "mean difference",
        lambda d, f, s, r: bca_interval(
            float(d.mean()), r, jackknife_ratio(np.bincount(f, d), s), clusters=len(s)
        ),
    ),
    "Hodges-Lehmann": ("Hodges-Lehmann", lambda d, f, s, r: _hodges_lehmann(d, f)),
}


def outcomes(
    p: float, family: np.ndarray, studies: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return outcomes (1, ½, 0) and length differences [studies, prompts]; a longer response wins more often."""
    shape = (studies, len(family))
    lengths = random.normal(0, 1, shape)
    shared = random.normal(0, FAMILY_SHARE**0.5, (studies, family.max() + 1))[:, family]
    latent = shared + random.normal(0, (1 - FAMILY_SHARE) ** 0.5, shape)
    # A Gaussian copula: uniform within a row, correlated within a family.
    uniform = special.ndtr(latent)
    chance = special.expit(special.logit(p) + LENGTH_EFFECT * np.tanh(lengths))
    tied = random.random(shape) < TIES
    return np.where(tied, 0.5, (uniform < chance).astype(float)), lengths


def cover_length_controlled(p: float, n: int, clusters: bool, studies: int, draws: int, seed: int) -> float:
    """Return the coverage of the length-controlled win rate's interval; the truth is its value on 2 million rows."""
    random = np.random.default_rng(seed)
    many = np.arange(2_000_000)
    y, lengths = outcomes(p, many, 1, random)
    truth = length_controlled_win_rate(y[0], lengths[0], many[:1].repeat(len(many)), draws=1).win_rate.mean
    hits = []
    for study in range(studies):
        family = families(n, clusters, random)
        y, lengths = outcomes(p, family, 1, random)
        found = length_controlled_win_rate(y[0], lengths[0], family, draws=draws, seed=seed + study).win_rate
        hits.append(found.low <= truth <= found.high)
    return float(np.mean(hits))


def main() -> None:
    """Print and write a table with one line per interval and one column per kind of study."""
    asked = result.arguments(__doc__ or "")
    asked.add_argument("--studies", type=int, default=2000)
    asked.add_argument("--draws", type=int, default=2000)
    asked.add_argument("--lc-studies", type=int, default=500)
    asked.add_argument("--lc-draws", type=int, default=400)
    asked.add_argument("--n", type=int, nargs="+", default=[50, 200, 2000])
    asked.add_argument("--p", type=float, nargs="+", default=[0.5, 0.9])
    given = result.parsed(asked, {"studies": 100, "draws": 200, "lc_studies": 5, "lc_draws": 50, "n": [50]})
    truths = {p: population(p) for p in given.p}
    columns: list[str] = []
    rows: dict[str, dict[str, float]] = {}
    begun = time.monotonic()
    for n in given.n:
        for p, truth in truths.items():
            for clusters in (False, True):
                column = f"{n}, {p}" + (", clusters" if clusters else "")
                columns.append(column)
                found = {}
                if given.studies:
                    found = cover(truth, n, clusters, given.studies, given.draws, seed=n)
                if given.lc_studies:
                    found["length-controlled win rate"] = cover_length_controlled(
                        p, n, clusters, given.lc_studies, given.lc_draws, seed=n
                    )
                for name, coverage in found.items():
                    rows.setdefault(name, {})[column] = coverage
                print(column, {name: round(100 * c, 1) for name, c in found.items()}, flush=True)
    cells = [
        [name, *(f"{100 * found[c]:.1f}" if c in found else "-" for c in columns)]
        for name, found in rows.items()
    ]
    result.table(["interval of: n, p", *columns], cells)
    outside = [
        f"{name} at {column}"
        for name, found in rows.items()
        for column, coverage in found.items()
        if "plain" not in name and not LOW <= coverage <= HIGH
    ]
    print(f"{time.monotonic() - begun:.0f} s; outside {100 * LOW} to {100 * HIGH} %: {outside or 'none'}")
    result.save("coverage_simulation", given, {"ties": TIES, "family_share": FAMILY_SHARE}, rows)


if __name__ == "__main__":
    main()
