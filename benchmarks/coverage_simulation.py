"""Measure how often nominal 95 % intervals of a comparison cover the truth, in simulated studies.

    python benchmarks/coverage_simulation.py [--studies 2000] [--draws 2000] [--refit-studies 2000]
    python benchmarks/coverage_simulation.py --n 50 --studies 0 --refit-studies 250 --part 3
    python benchmarks/coverage_simulation.py --merge

A part has its own random numbers and file; --merge adds up the studies of all parts in the output folder.

A study has n prompts and two policies. The difference of the two rewards is μ + cluster + noise; below a threshold it
is a tie. μ and the threshold are chosen so that 5 % of the rows are ties and a share p of the others are wins.
"clusters" puts prompts into clusters of 1 to 3 that share a third of the variance. The data are synthetic, and the
truth of each estimand is known. The standard error of a
coverage in 2,000 studies is 0.5 points.
"""

from __future__ import annotations

import json
import time
from argparse import Namespace
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
from harken.maths.statistics.intervals import Interval, clustered_jeffreys, wilson_interval
from harken.maths.statistics.length_control import length_controlled_win_rate
from harken.maths.statistics.paired import hodges_lehmann
from harken.maths.statistics.style_control import relative_difference, style_controlled_win_rate

TIES = 0.05
CLUSTER_SHARE = 1 / 3
"""Share of the variance of a difference that prompts of one cluster have in common."""
BATCH = 100
"""Studies that share bootstrap draws. Their intervals do not depend on how many share them."""
LOW, HIGH = 0.935, 0.965
PART_SEED = 1_000_000
LENGTH_EFFECT = 1.0
HEADERS_EFFECT = 0.5
"""Of the standardised relative difference of the number of headers, in nats of the odds."""
TRUTH_ROWS = 2_000_000
Hits = dict[str, list[int]]
"""By interval: how many studies covered the truth, and how many there were."""


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


def cluster_labels(n: int, clusters: bool, random: np.random.Generator) -> np.ndarray:
    """Return the cluster of each prompt: itself, or one of clusters of 1, 2 and 3 prompts."""
    if not clusters:
        return np.arange(n)
    return np.repeat(np.arange(n), random.integers(1, 4, n))[:n]


def differences(truth: Truth, cluster: np.ndarray, studies: int, random: np.random.Generator) -> np.ndarray:
    """Return differences of rewards [studies, prompts], 0 for a tie."""
    shared = random.normal(0, CLUSTER_SHARE**0.5, (studies, cluster.max() + 1))[:, cluster]
    d = truth.mean + shared + random.normal(0, (1 - CLUSTER_SHARE) ** 0.5, shared.shape)
    return np.where(np.abs(d) > truth.threshold, d, 0.0)


def cover(truth: Truth, n: int, clusters: bool, studies: int, draws: int, part: int) -> Hits:
    """Count how often each interval covers."""
    random, seed = np.random.default_rng([n, part]), n + PART_SEED * part
    covered: dict[str, list[bool]] = {}
    for batch in range(0, studies, BATCH):
        cluster = cluster_labels(n, clusters, random)
        size = np.bincount(cluster).astype(float)
        d = differences(truth, cluster, min(BATCH, studies - batch), random)
        sums = np.stack([np.bincount(cluster, row) for row in d], axis=1)
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
                low, high = make(row, cluster, size, replicates)
                covered.setdefault(name, []).append(low <= truth.estimands[estimand] <= high)
    return {name: [sum(hits), len(hits)] for name, hits in covered.items()}


def _jeffreys(hits: np.ndarray, of: np.ndarray, cluster: np.ndarray) -> tuple[float, float]:
    found = clustered_jeffreys(np.bincount(cluster, hits * of), np.bincount(cluster, of))
    return found.low, found.high


def _hodges_lehmann(d: np.ndarray, cluster: np.ndarray) -> tuple[float, float]:
    found = hodges_lehmann(d, clusters=cluster if len(cluster) > cluster.max() + 1 else None)
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


def outcomes(logits: np.ndarray, cluster: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return outcomes (1, ½, 0) of rows from the log odds that the right policy wins."""
    rows = len(logits)
    shared = random.normal(0, CLUSTER_SHARE**0.5, cluster.max() + 1)[cluster]
    latent = shared + random.normal(0, (1 - CLUSTER_SHARE) ** 0.5, rows)
    # A Gaussian copula: uniform within a row, correlated within a cluster.
    uniform = special.ndtr(latent)
    return np.where(random.random(rows) < TIES, 0.5, (uniform < special.expit(logits)).astype(float))


def length_study(
    p: float, cluster: np.ndarray, random: np.random.Generator, draws: int, seed: int
) -> Interval:
    """Return the length-controlled win rate of a study in which a longer response wins more often."""
    lengths = random.normal(0, 1, len(cluster))
    y = outcomes(special.logit(p) + LENGTH_EFFECT * np.tanh(lengths), cluster, random)
    return length_controlled_win_rate(y, lengths, _labels(cluster), draws=draws, seed=seed).win_rate


def style_study(
    p: float, cluster: np.ndarray, random: np.random.Generator, draws: int, seed: int
) -> Interval:
    """Return the style-controlled win rate of a study in which length and headers win."""
    sides = [
        {
            "length": np.exp(random.normal(5 + 0.2 * side, 0.6, len(cluster))),
            "headers": random.poisson(1 + side, len(cluster)).astype(float),
        }
        for side in (0, 1)
    ]
    logits = np.full(len(cluster), special.logit(p))
    for name, effect in (("length", LENGTH_EFFECT), ("headers", HEADERS_EFFECT)):
        column = relative_difference(sides[0][name], sides[1][name])
        logits += effect * column / STYLE_SPREAD[name]
    y = outcomes(logits, cluster, random)
    return style_controlled_win_rate(y, *sides, _labels(cluster), draws=draws, seed=seed).win_rate


STYLE_SPREAD = {"length": 0.38, "headers": 0.65}
"""About the standard deviations of the relative differences."""
REFITTED = {"length-controlled win rate": length_study, "style-controlled win rate": style_study}


def _labels(cluster: np.ndarray) -> np.ndarray:
    """Return the labels of clusters; of the many rows that give the truth only one, so that nothing is resampled."""
    return cluster if len(cluster) < TRUTH_ROWS else np.zeros(len(cluster))


def cover_refitted(p: float, n: int, clusters: bool, studies: int, draws: int, part: int) -> Hits:
    """Count how often the intervals of the controlled win rates cover; the truth is the estimate on 2 million rows."""
    found = {}
    for name, study in REFITTED.items():
        random = np.random.default_rng([n, part])
        truth = study(p, np.arange(TRUTH_ROWS), np.random.default_rng(0), 1, 0).mean
        hits = 0
        for number in range(studies):
            rate = study(p, cluster_labels(n, clusters, random), random, draws, number + PART_SEED * part)
            hits += rate.low <= truth <= rate.high
        found[name] = [int(hits), studies]
    return found


def merge(given: Namespace) -> None:
    """Print and write the sum of all parts in the output folder."""
    rows: dict[str, dict[str, list[int]]] = {}
    files = sorted(given.output_dir.glob("coverage_simulation-part*.json"))
    for file in files:
        for name, found in json.loads(file.read_text())["figures"].items():
            for column, (hits, studies) in found.items():
                before = rows.setdefault(name, {}).get(column, [0, 0])
                rows[name][column] = [before[0] + hits, before[1] + studies]
    show(rows)
    result.save("coverage_simulation", given, {"parts": len(files)}, rows)


def show(rows: Mapping[str, Mapping[str, list[int]]]) -> None:
    """Print coverages in percent with the number of studies, and which lie outside the range."""
    columns = list(dict.fromkeys(column for found in rows.values() for column in found))
    cells = [
        [
            name,
            *(
                f"{100 * found[c][0] / found[c][1]:.1f} ({found[c][1]})" if c in found else "-"
                for c in columns
            ),
        ]
        for name, found in rows.items()
    ]
    result.table(["interval of: n, p", *columns], cells)
    outside = [
        f"{name} at {column}"
        for name, found in rows.items()
        for column, (hits, studies) in found.items()
        if "plain" not in name and not LOW <= hits / studies <= HIGH
    ]
    print(f"outside {100 * LOW} to {100 * HIGH} %: {outside or 'none'}")


def main() -> None:
    """Print and write a table with one line per interval and one column per kind of study."""
    asked = result.arguments(__doc__ or "")
    asked.add_argument("--studies", type=int, default=2000)
    asked.add_argument("--draws", type=int, default=2000)
    asked.add_argument("--refit-studies", type=int, default=2000, help="of the controlled win rates")
    asked.add_argument("--refit-draws", type=int, default=400)
    asked.add_argument("--n", type=int, nargs="+", default=[50, 200, 2000])
    asked.add_argument("--p", type=float, nargs="+", default=[0.5, 0.9])
    asked.add_argument(
        "--part", type=int, default=0, help="number of this part: other random numbers, own file"
    )
    asked.add_argument("--merge", action="store_true", help="run nothing; add up the parts")
    given = result.parsed(
        asked, {"studies": 100, "draws": 200, "refit_studies": 5, "refit_draws": 50, "n": [50]}
    )
    if given.merge:
        merge(given)
        return
    truths = {p: population(p) for p in given.p} if given.studies else {}
    rows: dict[str, dict[str, list[int]]] = {}
    begun = time.monotonic()
    sizes = "-".join(map(str, given.n))
    for n in given.n:
        for p in given.p:
            for clusters in (False, True):
                column = f"{n}, {p}" + (", clusters" if clusters else "")
                found: Hits = {}
                if given.studies:
                    found |= cover(truths[p], n, clusters, given.studies, given.draws, given.part)
                if given.refit_studies:
                    found |= cover_refitted(
                        p, n, clusters, given.refit_studies, given.refit_draws, given.part
                    )
                for name, hits in found.items():
                    rows.setdefault(name, {})[column] = hits
                print(column, {name: round(100 * h / of, 1) for name, (h, of) in found.items()}, flush=True)
    show(rows)
    print(f"{time.monotonic() - begun:.0f} s")
    kinds = "refit" if not given.studies else "all" if given.refit_studies else "direct"
    result.save(
        f"coverage_simulation-part{given.part}-{kinds}-{sizes}",
        given,
        {"ties": TIES, "cluster_share": CLUSTER_SHARE},
        rows,
    )


if __name__ == "__main__":
    main()
