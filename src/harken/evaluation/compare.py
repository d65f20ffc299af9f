"""Compare policies N-way and pairwise from rows of responses, every figure with its uncertainty. No torch.

The prompt is the sampling unit. With several samples per prompt, the samples are averaged first, the bootstrap
resamples prompts, and the sign test counts every prompt once. Where a column names clusters of prompts that are not
independent, the cluster is the unit instead of the prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harken.errors import UserError
from harken.evaluation.estimates import CONFIDENCE, Units, signs_of
from harken.evaluation.pairs import (
    ComparisonSettings,
    pair_figures,
    repetitive,
    reward_length_correlation,
)
from harken.evaluation.response_table import Numbers, ResponseTable, build_table
from harken.evaluation.slices import Slice, build_slices
from harken.maths.repetition import REPETITIVE
from harken.maths.statistics.bootstrap import cluster_counts, enough_clusters, percentile_interval
from harken.maths.statistics.bradley_terry import fit_bradley_terry
from harken.maths.statistics.controlled_rate import REFIT_DRAWS
from harken.maths.statistics.intervals import TOO_FEW_PROMPTS, UNVARIED, finite_or_none, no_interval
from harken.maths.statistics.multiplicity import holm
from harken.maths.statistics.power import detectable_win_rate

MAX_SLICED_POLICIES = 12
"""Up to this many policies, every pair is compared by slices: 40 policies have 780 pairs, too many to read."""


def compare(
    rows: Sequence[Mapping[str, Any]],
    *,
    judges: Sequence[str] = (),
    tie_epsilon: float = 0.0,
    repeatability: float | None = None,
    slices: Sequence[str] = (),
    cluster: str | None = None,
    seed: int = 0,
    draws: int = 10_000,
    refit_draws: int = REFIT_DRAWS,
) -> dict[str, Any]:
    """Summarise an evaluation as a dict for JSON. The same rows and seed give the same summary.

    `rows` are those of `responses.parquet`, or of another tool: `policy`, `prompt_id`, `sample` and `reward` are
    required, and `response_tokens` or `response`. `judges` name further scorers (columns `score_<judge>`), `slices`
    further columns to slice by, `cluster` a column that labels clusters of prompts. A row is a tie when the rewards
    differ by at most `tie_epsilon`; `repeatability` is how much a score moves when only the batch or the dtype changes;
    the summary counts the decided rows within it.

    Policies keep the order in which they appear, and the first is the baseline. "table" has one entry per policy,
    "ties" counts the rows without a unique best reward, "pairs" has one entry per pair of policies, left before right,
    and "strengths" (for more than two policies) a Bradley–Terry model. With more than MAX_SLICED_POLICIES policies only
    the pairs with the baseline have slices. A mean or rate is {"value", "low", "high"} with
    a 95 % interval, or None where nothing was judged.

    Raises UserError when policies have responses to different prompts, which it names, when prompts have different
    numbers of samples, when a response occurs twice, when a reward is not finite, or when a named column is missing.
    """
    table = build_table(rows, cluster)
    _require_judges(rows, judges)
    units = Units(table.clusters, draws, seed)
    settings = ComparisonSettings(judges, tie_epsilon, repeatability, refit_draws)
    rewards = {p: table.column(p, "reward") for p in table.policies}
    best, ties = _winners(rewards, tie_epsilon)
    domains = table.labels("domain")
    return {
        **_design(table, cluster, units, settings),
        "table": [_policy_figures(table, p, best[p], judges, units) for p in table.policies],
        "ties": units.rate(ties),
        "pairs": _compare_pairs(table, build_slices(table, slices), units, settings),
        "strengths": _strengths(rewards, tie_epsilon, units, refit_draws) if len(rewards) > 2 else None,
        "domains": {d: domains.count(d) for d in sorted(set(domains))},
    }


def _design(
    table: ResponseTable, cluster: str | None, units: Units, settings: ComparisonSettings
) -> dict[str, Any]:
    """Return what is compared, the numbers of prompts and samples, and the settings of the statistics."""
    return {
        "policies": table.policies,
        "baseline": table.policies[0],
        "judges": list(settings.judges),
        "n": table.prompts * table.samples,
        "prompts": table.prompts,
        "samples": table.samples,
        "clusters": units.count,
        "cluster_column": cluster,
        "tie_epsilon": settings.tie_epsilon,
        "repeatability": settings.repeatability,
        "repetitive_above": REPETITIVE,
        "length_unit": table.length_unit,
        "confidence": CONFIDENCE,
        "seed": units.seed,
        "draws": units.draws,
        "refit_draws": settings.refit_draws,
        "detectable_win_rate": detectable_win_rate(units.count),
    }


def _require_judges(rows: Sequence[Mapping[str, Any]], judges: Sequence[str]) -> None:
    for judge in judges:
        if not all(f"score_{judge}" in row for row in rows):
            raise UserError(
                f"there is no column score_{judge} in every row",
                where="responses",
                fix="give every row this column, null where there is no score, or leave the judge out",
            )


def _compare_pairs(
    table: ResponseTable, slices: Sequence[Slice], units: Units, settings: ComparisonSettings
) -> list[dict[str, Any]]:
    """Compare every two policies; with many policies, only the pairs with the baseline by slices."""
    baseline = table.policies[0]
    all_sliced = len(table.policies) <= MAX_SLICED_POLICIES
    pairs = [
        pair_figures(table, left, right, slices if all_sliced or left == baseline else [], units, settings)
        for left, right in combinations(table.policies, 2)
    ]
    _adjust(pairs, settings.judges)
    return pairs


def _adjust(pairs: Sequence[dict[str, Any]], judges: Sequence[str]) -> None:
    """Add Holm's p over the pairs, for the reward and for every judge."""
    for comparisons in [pairs, *([pair["scorers"][judge] for pair in pairs] for judge in judges)]:
        for figures, p in zip(comparisons, holm([c["sign_test_p"] for c in comparisons]), strict=True):
            figures["holm_p"] = p


def _winners(rewards: Mapping[str, Numbers], epsilon: float) -> tuple[dict[str, NDArray[Any]], NDArray[Any]]:
    """Mark where each policy's reward is above all others by more than epsilon, and where no policy's is."""
    stacked = np.stack(list(rewards.values()))
    near_top = stacked >= stacked.max(axis=0) - epsilon
    tied = near_top.sum(axis=0) > 1
    return {p: near_top[i] & ~tied for i, p in enumerate(rewards)}, tied


def _policy_figures(
    table: ResponseTable, policy: str, wins: NDArray[Any], judges: Sequence[str], units: Units
) -> dict[str, Any]:
    def share(values: Numbers) -> dict[str, Any] | None:
        return units.rate(values == 1, ~np.isnan(values))

    columns = {"reward": table.column(policy, "reward")}
    means = units.means(columns | {judge: table.column(policy, f"score_{judge}") for judge in judges})
    lengths = table.lengths(policy)
    return {
        "policy": policy,
        "win_rate": units.rate(wins),
        "reward": means["reward"],
        "median_response_tokens": float(np.median(lengths)),
        "mean_response_length": float(lengths.mean()),
        "reward_length_correlation": reward_length_correlation(table, policy),
        "cap_hit": share(table.column(policy, "cap_hit")),
        "empty": share(table.column(policy, "empty")),
        "repetition": share(repetitive(table, policy)),
        "judges": {judge: means[judge] for judge in judges},
    }


def _strengths(rewards: Mapping[str, Numbers], epsilon: float, units: Units, draws: int) -> dict[str, Any]:
    """Fit a Bradley–Terry model with Rao–Kupper ties to all pairs of rows; strengths are relative to the baseline.

    In nats of the odds; the interval comes from refitting in every bootstrap draw of whole clusters.
    """
    policies = list(rewards)
    size = len(policies)
    clusters = units.count
    won, tied = np.zeros((2, clusters, size, size))
    for i, first in enumerate(policies):
        for j, second in enumerate(policies):
            if i != j:
                signs = signs_of(rewards[first] - rewards[second], epsilon)
                won[:, i, j] = units.sums((signs > 0).astype(np.float64))
                tied[:, i, j] = units.sums((signs == 0).astype(np.float64))
    counts = np.concatenate(list(cluster_counts(clusters, draws, units.seed)))
    flat_shape = (clusters, size * size)
    fitted = fit_bradley_terry(won.sum(axis=0), tied.sum(axis=0))
    resampled = fit_bradley_terry(
        (counts @ won.reshape(flat_shape)).reshape(-1, size, size),
        (counts @ tied.reshape(flat_shape)).reshape(-1, size, size),
    )
    strength, replicates = fitted.b[0] - fitted.b[0, 0], resampled.b - resampled.b[:, :1]
    strengths = []
    for i, policy in enumerate(policies):
        # The baseline's strength is 0 by definition, not an estimate.
        bounds = percentile_interval(replicates[:, i], CONFIDENCE, clusters) if i else (0.0, 0.0)
        low, high = map(finite_or_none, bounds)
        figure = {"policy": policy, "value": float(strength[i]), "low": low, "high": high}
        strengths.append(
            figure | no_interval(low, UNVARIED if enough_clusters(clusters) else TOO_FEW_PROMPTS)
        )
    return {"policies": strengths, "tie_parameter": float(fitted.eta[0]), "draws": draws}
