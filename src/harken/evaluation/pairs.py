"""Compare two policies on the same prompts: wins, tests, effect sizes, lengths, scorers. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from harken.evaluation.estimates import CONFIDENCE, Units, signs_of, win_figures
from harken.evaluation.response_table import Numbers, ResponseTable
from harken.evaluation.slices import Slice
from harken.maths.repetition import REPETITIVE
from harken.maths.statistics.bootstrap import is_constant
from harken.maths.statistics.intervals import TOO_FEW_PROMPTS, UNVARIED, no_interval
from harken.maths.statistics.length_control import (
    MATCHED_LOG_RATIO,
    length_controlled_win_rate,
    length_correlations,
    length_matched,
)
from harken.maths.statistics.multiplicity import benjamini_hochberg
from harken.maths.statistics.paired import (
    clustered_standard_error,
    cohen_dz,
    hodges_lehmann,
    wilcoxon_test,
)
from harken.maths.statistics.power import detectable_mean_difference, detectable_win_rate
from harken.maths.statistics.style_control import style_controlled_win_rate
from harken.maths.statistics.variance import split_variance

LENGTH = "length"
"""Name of the length among the styles of a response."""
FIRST_SCORER = "reward"
"""Name of the first scorer, which gives the reward, where scorers are compared."""


@dataclass(frozen=True, slots=True)
class ComparisonSettings:
    """The judges' names, the tie rule, and the number of refits of the length control.

    `repeatability` is how much a score moves when only the batch or the dtype changes; None if it was not measured.
    """

    judges: Sequence[str]
    tie_epsilon: float
    repeatability: float | None
    refit_draws: int


def pair_figures(
    table: ResponseTable,
    left: str,
    right: str,
    slices: Sequence[Slice],
    units: Units,
    settings: ComparisonSettings,
) -> dict[str, Any]:
    """Return all figures of a pair, right compared with left, as a dict for JSON."""

    def difference(name: str) -> Numbers:
        return table.column(right, name) - table.column(left, name)

    reward = difference("reward")
    judged = {judge: difference(f"score_{judge}") for judge in settings.judges}
    changes = {
        "cap_hit": difference("cap_hit"),
        "empty": difference("empty"),
        "repetition": repetitive(table, right) - repetitive(table, left),
    }
    columns: dict[Any, Numbers] = {"reward": reward, **judged, **changes}
    for slice_ in slices:
        for name, values in {"reward": reward, **judged}.items():
            columns[slice_.column, slice_.value, name] = np.where(
                slice_.rows(left, right)[:, None], values, np.nan
            )
    means = units.means(columns, dict.fromkeys(changes, (-1.0, 1.0)))
    signs = signs_of(reward, settings.tie_epsilon)
    by_slice = _slices(slices, left, right, signs, means, units, settings)
    return {
        "left": left,
        "right": right,
        **win_figures(signs, units),
        "reward": means["reward"],
        "judges": {judge: means[judge] for judge in settings.judges},
        "sign_test_p": units.sign_test_p(signs),
        "sign_test_votes": units.votes(signs),
        "within_repeatability": _within_repeatability(reward, settings),
        "median_difference": float(np.median(reward)),
        **_effect(reward, signs, units),
        **{name: _change(values, means[name], units) for name, values in changes.items()},
        "length": _length(table, left, right, signs, units, settings),
        "style": _style(table, left, right, signs, units, settings),
        "scorers": {judge: _scorer(values, units) for judge, values in judged.items()},
        "disagreement": _disagreement(
            {FIRST_SCORER: signs} | {j: np.sign(d) for j, d in judged.items()}, units
        ),
        "variance": _variance(reward),
        "domains": {figures["value"]: figures for figures in by_slice if figures["column"] == "domain"},
        "slices": by_slice,
    }


def repetitive(table: ResponseTable, policy: str) -> Numbers:
    """Return 1 where a response is repetitive, else 0, NaN where it was not measured, [prompts, samples]."""
    share = table.column(policy, "repeated_4grams")
    return np.where(np.isnan(share), np.nan, share > REPETITIVE)


def _slices(
    slices: Sequence[Slice],
    left: str,
    right: str,
    signs: Numbers,
    means: Mapping[Any, Any],
    units: Units,
    settings: ComparisonSettings,
) -> list[dict[str, Any]]:
    """Return the figures of each slice that has prompts, with Benjamini and Hochberg's q over the slices."""
    by_slice = [
        {
            "column": slice_.column,
            "value": slice_.value,
            **_slice_figures(signs, inside, units),
            "reward": means[slice_.column, slice_.value, "reward"],
            "judges": {judge: means[slice_.column, slice_.value, judge] for judge in settings.judges},
        }
        for slice_ in slices
        if (inside := slice_.rows(left, right)).any()
    ]
    for figures, q in zip(by_slice, benjamini_hochberg([s["sign_test_p"] for s in by_slice]), strict=True):
        figures["q"] = q
    return by_slice


def _slice_figures(signs: Numbers, inside: np.ndarray[Any, Any], units: Units) -> dict[str, Any]:
    masked = np.where(inside[:, None], signs, np.nan)
    return {
        "prompts": int(inside.sum()),
        **win_figures(masked, units),
        "sign_test_p": units.sign_test_p(masked),
    }


def _effect(reward: Numbers, signs: Numbers, units: Units) -> dict[str, Any]:
    """Return effect sizes and the smallest effects that the study detects. d_z is over prompts."""
    per_prompt = reward.mean(axis=1)
    clusters = None if units.independent else units.clusters
    shift = hodges_lehmann(per_prompt, CONFIDENCE, clusters)
    low, high = shift.bounds
    reason = UNVARIED if is_constant(per_prompt) else TOO_FEW_PROMPTS
    error = clustered_standard_error(per_prompt, units.clusters)
    decided = units.votes(signs)
    return {
        "standard_error": error,
        "hodges_lehmann": {"value": shift.mean, "low": low, "high": high} | no_interval(low, reason),
        "wilcoxon_p": wilcoxon_test(per_prompt) if clusters is None else None,
        "cohen_dz": cohen_dz(per_prompt),
        "detectable_difference": None if error is None else detectable_mean_difference(error),
        "detectable_win_rate": detectable_win_rate(max(decided["wins"] + decided["losses"], 1)),
    }


def _change(difference: Numbers, mean: Mapping[str, Any] | None, units: Units) -> dict[str, Any] | None:
    """Return the change of a rate, right minus left. `mcnemar_p` is exact, with one vote per prompt that differs."""
    if mean is None:
        return None
    return {
        **mean,
        "only_right": int((difference > 0).sum()),
        "only_left": int((difference < 0).sum()),
        "mcnemar_p": units.sign_test_p(difference),
    }


def _length(
    table: ResponseTable, left: str, right: str, signs: Numbers, units: Units, settings: ComparisonSettings
) -> dict[str, Any]:
    """Return the win rate at equal lengths, by regression and on the rows whose lengths match."""
    first, second = table.lengths(left), table.lengths(right)
    outcomes = (signs.ravel() + 1) / 2
    rows = np.repeat(units.clusters, table.samples)
    controlled = length_controlled_win_rate(
        outcomes, (second - first).ravel(), rows, draws=settings.refit_draws, seed=units.seed
    )
    matched = length_matched(first, second)
    rate = controlled.win_rate
    return {
        "unit": table.length_unit,
        "mean_left": float(first.mean()),
        "mean_right": float(second.mean()),
        "controlled": {"value": rate.mean, "low": rate.low, "high": rate.high},
        "theta": controlled.theta,
        "phi": controlled.phi,
        "draws": settings.refit_draws,
        "matched_within": MATCHED_LOG_RATIO,
        "matched": win_figures(np.where(matched, signs, np.nan), units),
    }


def _style(
    table: ResponseTable, left: str, right: str, signs: Numbers, units: Units, settings: ComparisonSettings
) -> dict[str, Any] | None:
    """Return the win rate at equal length and markup; None without texts, or where no response has markup."""
    before, after = table.styles(left), table.styles(right)
    if before is None or after is None:
        return None
    if not any(counts.any() for counts in (*before.values(), *after.values())):
        return None
    first = {LENGTH: table.lengths(left), **before}
    second = {LENGTH: table.lengths(right), **after}
    controlled = style_controlled_win_rate(
        (signs.ravel() + 1) / 2,
        first,
        second,
        np.repeat(units.clusters, table.samples),
        draws=settings.refit_draws,
        seed=units.seed,
    )
    rate = controlled.win_rate
    return {
        "mean_left": {name: float(values.mean()) for name, values in first.items()},
        "mean_right": {name: float(values.mean()) for name, values in second.items()},
        "controlled": {"value": rate.mean, "low": rate.low, "high": rate.high},
        "theta": controlled.theta,
        "effects": controlled.effects,
        "draws": settings.refit_draws,
    }


def _scorer(difference: Numbers, units: Units) -> dict[str, Any]:
    """Return another scorer's wins over the rows that it scored; its ties are equal scores."""
    signs = np.sign(difference)
    return {**win_figures(signs, units), "sign_test_p": units.sign_test_p(signs)}


def _disagreement(signs: Mapping[str, Numbers], units: Units) -> list[dict[str, Any]]:
    """Return for every two scorers how often they prefer different policies, among rows that both decide."""
    disagreements = []
    for first, second in combinations(signs, 2):
        product = signs[first] * signs[second]
        decided = ~np.isnan(product) & (product != 0)
        disagreements.append({"scorers": [first, second], "rate": units.rate(product < 0, decided)})
    return disagreements


def _variance(reward: Numbers) -> dict[str, Any] | None:
    """Return the variance of the difference by prompt and by sample; None for one prompt or one sample each."""
    if min(reward.shape) < 2:
        return None
    split = split_variance(reward)
    return {
        "prompt": split.prompt,
        "sample": split.sample,
        "standard_errors": {str(k): error for k, error in split.standard_errors.items()},
        "limit": split.limit,
    }


def _within_repeatability(reward: Numbers, settings: ComparisonSettings) -> int | None:
    """Count the decided rows whose difference is no larger than the scorer's repeatability."""
    if settings.repeatability is None:
        return None
    magnitude = np.abs(reward)
    return int(((magnitude > settings.tie_epsilon) & (magnitude <= settings.repeatability)).sum())


def reward_length_correlation(table: ResponseTable, policy: str) -> dict[str, float | None]:
    """Return Pearson's and Spearman's correlation of a policy's rewards with its lengths."""
    pearson, spearman = length_correlations(table.column(policy, "reward"), table.lengths(policy))
    return {"pearson": pearson, "spearman": spearman}
