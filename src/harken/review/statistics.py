"""Compute the figures of a review from its unblinded votes: win rates, agreement, sensitivity. No torch.

An item's outcome is the side with more votes, a tie where the votes cancel; both bad counts as a tie. Only votes of the
kind "vote" count: calibration, gold and repeats are figures of the raters. The unit of resampling and tests is the
prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

import numpy as np

from harken.evaluation.estimates import CONFIDENCE, Units, win_figures
from harken.maths.statistics.agreement import (
    alpha_interval,
    cohen_kappa,
    fleiss_kappa,
    percent_agreement,
    rater_ceiling,
)
from harken.maths.statistics.bootstrap import cluster_counts, percentile_interval
from harken.maths.statistics.bradley_terry import check_connected, fit_bradley_terry
from harken.maths.statistics.intervals import finite_or_none
from harken.maths.statistics.multiplicity import holm
from harken.maths.statistics.power import detectable_win_rate
from harken.review.calibration import calibration_of
from harken.review.outcomes import UnblindedVote, unblind
from harken.review.rater_figures import rater_figures
from harken.review.study import Study
from harken.review.votes import Vote

REVIEW_DRAWS = 2000
_CODES = {"first": -1.0, "tie": 0.0, "second": 1.0, "both_bad": 2.0}


def review_figures(study: Study, votes: Sequence[Vote], draws: int = REVIEW_DRAWS) -> dict[str, Any]:
    """Return all figures of a review as a dict for JSON. The same votes give the same figures.

    "pairs" has one entry per pair of policies with votes, `wins` being those of `right`; "agreement" is None where no
    item has two votes. "headline" says whether the agreement supports one, and why not.
    """
    unblinded = unblind(study, votes)
    counted = [vote for vote in unblinded if vote.task.kind == "vote"]
    seed = study.config.seed
    pairs = [
        {
            "left": left,
            "right": right,
            **pair_outcomes(pair_votes, draws, seed),
            "sensitivity": _sensitivity(study, pair_votes),
        }
        for (left, right), pair_votes in _by_pair(study, counted)
    ]
    for pair, p in zip(pairs, holm([pair["sign_test_p"] for pair in pairs]), strict=True):
        pair["holm_p"] = p
    agreement = agreement_figures(counted, draws, seed)
    return {
        "study": study.hash,
        "policies": study.policies,
        "votes": len(counted),
        "rows": len(votes),
        "items": {**study.counts, "voted": len({vote.item.id for vote in counted if vote.sign is not None})},
        "confidence": CONFIDENCE,
        "seed": seed,
        "draws": draws,
        "headline": headline_decision(agreement),
        "pairs": pairs,
        "strengths": _strengths(study, counted, draws) if len(study.policies) > 2 else None,
        "agreement": agreement,
        "raters": rater_figures(study, unblinded),
        "calibration": [asdict(calibration_of(study, votes, rater)) for rater in study.tasks],
    }


def pair_outcomes(pair_votes: Sequence[UnblindedVote], draws: int, seed: int) -> dict[str, Any]:
    """Return wins, ties and losses of the later policy over items, with intervals clustered by prompt."""
    signs, prompts = item_signs(pair_votes)
    clusters = np.unique(prompts, return_inverse=True)[1].astype(np.int64)
    units = Units(clusters, draws, seed)
    column = np.array(signs, dtype=np.float64)[:, None]
    figures = win_figures(column, units)
    return {
        **figures,
        "both_bad": sum(vote.outcome == "both_bad" for vote in pair_votes),
        "skips": sum(vote.outcome == "skip" for vote in pair_votes),
        "votes": sum(vote.sign is not None for vote in pair_votes),
        "sign_test_p": units.sign_test_p(column),
        "detectable_win_rate": detectable_win_rate(max(figures["wins"] + figures["losses"], 1)),
    }


def item_signs(votes: Sequence[UnblindedVote]) -> tuple[list[int], list[str]]:
    """Return each item's sign, 1 for the second policy, and its prompt. Items with only skips have none."""
    sums: dict[str, int] = {}
    prompts: dict[str, str] = {}
    for vote in votes:
        if vote.sign is not None:
            sums[vote.item.id] = sums.get(vote.item.id, 0) + vote.sign
            prompts[vote.item.id] = vote.item.prompt_id
    return [(total > 0) - (total < 0) for total in sums.values()], [prompts[item] for item in sums]


def agreement_figures(votes: Sequence[UnblindedVote], draws: int, seed: int) -> dict[str, Any] | None:
    """Return the agreement of raters over the items with two or more votes; None without one.

    Nominal alpha, percent agreement and kappas compare outcomes (first, second, tie, both bad); ordinal alpha compares
    scores from −3 to 3. Fleiss' kappa is None where items have different numbers of votes.
    """
    rows: dict[str, list[UnblindedVote]] = {}
    for vote in votes:
        if vote.sign is not None:
            rows.setdefault(vote.item.id, []).append(vote)
    rated = [row for row in rows.values() if len(row) >= 2]
    if not rated:
        return None
    outcomes = [[_CODES[vote.outcome] for vote in row] for row in rated]
    scores = [[float(vote.score or 0.0) for vote in row] for row in rated]
    nominal, ordinal = (
        alpha_interval(outcomes, "nominal", draws, seed),
        alpha_interval(scores, "ordinal", draws, seed),
    )
    ceiling = rater_ceiling(scores)
    return {
        "items": len(rated),
        "percent": percent_agreement(outcomes),
        "alpha_nominal": asdict(nominal) if nominal else None,
        "alpha_ordinal": asdict(ordinal) if ordinal else None,
        "fleiss_kappa": fleiss_kappa(outcomes) if len({len(row) for row in outcomes}) == 1 else None,
        "cohen_kappa": _pairwise_kappas(rated),
        "ceiling": asdict(ceiling) if ceiling else None,
    }


def headline_decision(agreement: dict[str, Any] | None) -> dict[str, Any]:
    """Return whether the agreement of raters supports a headline, and the reason if not."""
    alpha = agreement["alpha_ordinal"] if agreement else None
    if agreement is None:
        reason = "no item was judged by two raters, so their agreement is not known"
    elif alpha is None:
        reason = (
            "all votes on the items that two raters judged are equal, so agreement cannot be told from chance"
        )
    elif alpha["low"] <= 0:
        reason = (
            f"the raters' agreement cannot be told from chance: Krippendorff's alpha {alpha['value']:.2f}, "
            f"95 % interval {alpha['low']:.2f} to {alpha['high']:.2f}"
        )
    else:
        return {"allowed": True, "why": ""}
    return {"allowed": False, "why": reason}


def _by_pair(
    study: Study, counted: Sequence[UnblindedVote]
) -> list[tuple[tuple[str, str], list[UnblindedVote]]]:
    groups: dict[tuple[str, str], list[UnblindedVote]] = {}
    for vote in counted:
        groups.setdefault(vote.item.policies, []).append(vote)
    order = {pair: i for i, pair in enumerate(combinations(study.policies, 2))}
    sorted_groups = sorted(groups.items(), key=lambda group: order.get(group[0], len(order)))
    return [
        (pair, pair_votes)
        for pair, pair_votes in sorted_groups
        if any(vote.sign is not None for vote in pair_votes)
    ]


def _sensitivity(study: Study, votes: Sequence[UnblindedVote]) -> list[dict[str, Any]]:
    """Return the wins, ties and losses without several kinds of doubtful votes."""
    speed = study.config.reading_speed
    filters: dict[str, Callable[[UnblindedVote], bool]] = {
        "without votes faster than reading": lambda vote: not vote.too_fast(speed),
        "without items that name a model": lambda vote: not vote.item.names_model,
        "first votes of the first rater of each item": lambda vote: vote is first_votes[vote.item.id],
    }
    first_votes: dict[str, UnblindedVote] = {}
    for vote in votes:
        first_votes.setdefault(vote.item.id, vote)
    variants = []
    for label, keeps in filters.items():
        signs, _ = item_signs([vote for vote in votes if keeps(vote)])
        counts = {"wins": signs.count(1), "ties": signs.count(0), "losses": signs.count(-1)}
        decided = counts["wins"] + counts["losses"]
        variants.append(
            {"label": label, **counts, "win_rate_decided": counts["wins"] / decided if decided else None}
        )
    return variants


def _pairwise_kappas(rated: Sequence[Sequence[UnblindedVote]]) -> list[dict[str, Any]]:
    """Return Cohen's kappa of every two raters over the items that both judged."""
    shared: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for row in rated:
        by_rater = {vote.vote.rater: vote.outcome for vote in row}
        for first, second in combinations(sorted(by_rater), 2):
            shared.setdefault((first, second), []).append((by_rater[first], by_rater[second]))
    return [
        {
            "raters": list(pair),
            "items": len(rows),
            "agree": sum(a == b for a, b in rows),
            "kappa": cohen_kappa(*zip(*rows, strict=True)),
        }
        for pair, rows in sorted(shared.items())
    ]


def _strengths(study: Study, counted: Sequence[UnblindedVote], draws: int) -> list[dict[str, Any]] | None:
    """Fit Bradley–Terry strengths with Rao–Kupper ties to all items, in nats relative to the baseline.

    None where the votes do not connect all policies. Intervals come from fits to resampled prompts; there are none for
    fewer than `bootstrap.MIN_CLUSTERS` prompts.
    """
    size, place = len(study.policies), {name: i for i, name in enumerate(study.policies)}
    prompts: dict[str, int] = {}
    rows = []
    for pair, pair_votes in _by_pair(study, counted):
        for sign, prompt in zip(*item_signs(pair_votes), strict=True):
            rows.append((prompts.setdefault(prompt, len(prompts)), place[pair[0]], place[pair[1]], sign))
    won, tied = np.zeros((2, max(len(prompts), 1), size, size))
    for cluster, i, j, sign in rows:
        if sign == 0:
            tied[cluster, i, j] += 1
            tied[cluster, j, i] += 1
        else:
            won[cluster, *((j, i) if sign > 0 else (i, j))] += 1
    try:
        check_connected((won + tied).sum(axis=0))
    except ValueError:
        return None
    counts = np.concatenate(list(cluster_counts(len(won), draws, study.config.seed)))
    flat = (len(won), size * size)
    fitted = fit_bradley_terry(won.sum(axis=0), tied.sum(axis=0))
    resampled = fit_bradley_terry(
        (counts @ won.reshape(flat)).reshape(-1, size, size),
        (counts @ tied.reshape(flat)).reshape(-1, size, size),
    )
    strength, replicates = fitted.b[0] - fitted.b[0, 0], resampled.b - resampled.b[:, :1]
    strengths = []
    for i, policy in enumerate(study.policies):
        bounds = percentile_interval(replicates[:, i], CONFIDENCE, len(won)) if i else (0.0, 0.0)
        low, high = map(finite_or_none, bounds)
        strengths.append({"policy": policy, "value": float(strength[i]), "low": low, "high": high})
    return strengths
