"""Estimate rates and means over prompts, each with its interval, as dicts for JSON. No torch.

Independent units are resampled and counted: prompts with all their samples, or clusters of prompts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harken.evaluation.response_table import Numbers
from harken.maths.statistics.bootstrap import (
    SortedReplicates,
    bca_interval,
    enough_clusters,
    is_constant,
    jackknife_ratio,
    percentile_interval,
    resample_ratios,
)
from harken.maths.statistics.intervals import (
    TOO_FEW_PROMPTS,
    UNVARIED,
    clustered_jeffreys,
    finite_or_none,
    no_interval,
    rule_of_three,
    unvaried_interval,
    wilson_interval,
)
from harken.maths.statistics.paired import sign_test

CONFIDENCE = 0.95
NO_LIMITS: Mapping[Any, tuple[float, float]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Units:
    """The cluster of each prompt, and the settings of the bootstrap."""

    clusters: NDArray[np.int64]
    draws: int
    seed: int

    @property
    def count(self) -> int:
        """Number of clusters."""
        return int(self.clusters.max()) + 1

    @property
    def independent(self) -> bool:
        """Whether every prompt is a cluster of its own."""
        return len(self.clusters) == self.count

    def sums(self, values: Numbers) -> Numbers:
        """Add up values [prompts, …] per cluster, over samples too; NaN counts as 0."""
        rows = np.nan_to_num(values).reshape(len(values), -1).sum(axis=1)
        cluster_sums: Numbers = np.bincount(self.clusters, rows).astype(np.float64)
        return cluster_sums

    def rate(self, hits: NDArray[Any], mask: NDArray[Any] | None = None) -> dict[str, Any] | None:
        """Compute the share of `hits` among the rows of `mask` (None: all rows), both [prompts, samples].

        {"count", "n", "value", "low", "high"}: Wilson where rows are independent, else Jeffreys at the effective n.
        `hits` may be ½ for a tie. A count of 0 adds "at_most", the rule of three over independent units. Returns None
        without rows.
        """
        rows = np.ones(hits.shape, dtype=bool) if mask is None else mask
        n = int(rows.sum())
        if not n:
            return None
        counted_hits = np.where(rows, hits, 0.0)
        count = float(counted_hits.sum())
        per_cluster = self.sums(rows.astype(np.float64))
        is_count = bool(((counted_hits == 0) | (counted_hits == 1)).all())
        if is_count and hits.shape[1] == 1 and self.independent:
            low, high = wilson_interval(int(count), n, CONFIDENCE)
        else:
            jeffreys = clustered_jeffreys(
                self.sums(counted_hits), per_cluster, CONFIDENCE, halves=not is_count
            )
            low, high = jeffreys.low, jeffreys.high
        rate = {
            "count": int(count) if is_count else count,
            "n": n,
            "value": count / n,
            "low": low,
            "high": high,
        }
        return rate | ({"at_most": rule_of_three(int((per_cluster > 0).sum()))} if count == 0 else {})

    def means(
        self, columns: Mapping[Any, Numbers], limits: Mapping[Any, tuple[float, float]] = NO_LIMITS
    ) -> dict[Any, dict[str, Any] | None]:
        """Compute the mean of every column [prompts, samples] with its bootstrap intervals; None without a value.

        A prompt's samples are averaged first, over those that have a value. All columns share their draws.
        {"value", "low", "high", "n" prompts with a value, "bca_low", "bca_high"}. Where no cluster differs from another
        the bounds are those of `unvaried_interval`, given the least and largest value of a column in `limits`, and
        None for other columns; they are None for fewer clusters than `MIN_CLUSTERS` too. "no_interval" then says why.
        """
        sums, counts, names = [], [], []
        for name, values in columns.items():
            known = ~np.isnan(values)
            has_value = known.any(axis=1)
            per_prompt = np.where(known, values, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
            if has_value.any():
                names.append((name, int(has_value.sum())))
                sums.append(np.bincount(self.clusters, per_prompt))
                counts.append(np.bincount(self.clusters, has_value.astype(np.float64)))
        means: dict[Any, dict[str, Any] | None] = dict.fromkeys(columns)
        if not names:
            return means
        numerators, denominators = np.stack(sums, axis=1), np.stack(counts, axis=1)
        replicates = resample_ratios(numerators, denominators, self.draws, self.seed)
        for column, (name, n) in enumerate(names):
            value = float(numerators[:, column].sum() / denominators[:, column].sum())
            clusters = int((denominators[:, column] > 0).sum())
            measured = denominators[:, column] > 0
            if clusters == 1 or is_constant(numerators[measured, column] / denominators[measured, column]):
                unvaried = unvaried_interval(value, clusters, limits.get(name), CONFIDENCE)
                bounds = (unvaried.low, unvaried.high, unvaried.low, unvaried.high)
            else:
                jackknife = jackknife_ratio(numerators[measured, column], denominators[measured, column])
                sorted_replicates = SortedReplicates(replicates[:, column])
                bounds = (
                    *percentile_interval(sorted_replicates, CONFIDENCE, clusters),
                    *bca_interval(value, sorted_replicates, jackknife, CONFIDENCE, clusters),
                )
            bound_names = ("low", "high", "bca_low", "bca_high")
            numbers = map(finite_or_none, bounds)
            mean = {"value": value, "n": n, **dict(zip(bound_names, numbers, strict=True))}
            means[name] = mean | no_interval(
                mean["low"], UNVARIED if enough_clusters(clusters) else TOO_FEW_PROMPTS
            )
        return means

    def votes(self, signs: Numbers) -> dict[str, int]:
        """Count clusters by the side that wins more of their rows; `signs` are 1, 0, −1 or NaN, [prompts, samples]."""
        votes = self.sums(signs)
        known = self.sums((~np.isnan(signs)).astype(np.float64)) > 0
        wins, losses = int((votes > 0).sum()), int((votes < 0).sum())
        return {"wins": wins, "ties": int(known.sum()) - wins - losses, "losses": losses}

    def sign_test_p(self, signs: Numbers) -> float:
        """Compute the exact sign test's p with one vote per cluster."""
        votes = self.votes(signs)
        return sign_test(votes["wins"], votes["losses"])


def signs_of(differences: Numbers, epsilon: float) -> Numbers:
    """Return 1, 0 or −1 for a win, tie or loss: a tie is within epsilon. NaN stays."""
    return np.where(np.abs(differences) <= epsilon, 0.0, np.sign(differences))


def win_figures(signs: Numbers, units: Units) -> dict[str, Any]:
    """Count wins, ties and losses over all rows, and compute three win rates, which count ties differently.

    `win_rate` is W / (W + T + L), `win_rate_decided` W / (W + L), `win_share` (W + T / 2) / (W + T + L). `loss_rate`,
    L / (W + T + L), is the other side's `win_rate`.
    """
    known = ~np.isnan(signs)
    wins, losses = int((signs > 0).sum()), int((signs < 0).sum())
    return {
        "n": int(known.sum()),
        "wins": wins,
        "ties": int(known.sum()) - wins - losses,
        "losses": losses,
        "win_rate": units.rate(signs > 0, known),
        "loss_rate": units.rate(signs < 0, known),
        "win_rate_decided": units.rate(signs > 0, known & (signs != 0)),
        "win_share": units.rate((signs + 1) / 2, known),
    }
