"""List the responses that a person should read, queue by queue."""

# ruff: noqa: E501  one pattern a line reads better than a wrapped one

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata

from harken.config.audit import AuditSettings
from harken.evaluation.audit.keys import AuditedRows, Key, ResponseRows, key_of
from harken.evaluation.audit.kinds import BROKEN, QUEUES
from harken.evaluation.audit.words import words
from harken.maths.repetition import longest_common_run

PUBLISHED_LIMITS = {
    "mismatch_reward": 2.0,
    "win_baseline_margin": 2.0,
    "win_other_margin": 1.0,
    "loss_margin": 5.0,
}
"""Limits of the published Qwen2.5-0.5B audit, in units of that run's reward model."""
STEM_DOMAINS = frozenset(["stem", "science", "physics", "chemistry", "biology", "medicine", "engineering"])
EXTREMES = 3
"""Highest and lowest rewards of each policy that a person should see."""
REFERENCE_RUN = 8
"""Words in a row that a useful response shares with the reference response."""
USEFUL_RELEVANCE = 0.2
"""Relevance to the own prompt from which a text counts as useful, if there is neither another scorer nor a reference."""

_STEP = re.compile(
    r"^\s*(?:\d{1,2}[.)]|[-*•]|step \d+\b|schritt \d+\b|étape \d+\b|paso \d+\b|第.{1,3}步)",
    re.IGNORECASE | re.MULTILINE,
)
_QUANTITY = re.compile(
    r"\b\d+(?:[.,]\d+)?\s?(?:[mµμkn]?[LlgMmsNJWVAF]|[kM]?Hz|[kM]?Pa|kg|km|cm|mm|nm|mol|mmol|kJ|kcal|ppm|rpm|min|minutes?|hours?|seconds?|"
    r"°\s?[CF]|K|%|atm|bar|eV|Ω)(?![\w])"
)


@dataclass(frozen=True, slots=True)
class RewardLimits:
    """Limits in units of the first scorer's reward; None where no row gives one. `source` says where each comes from."""

    mismatch_reward: float | None
    low_reward: float | None
    win_baseline_margin: float | None
    win_other_margin: float | None
    loss_margin: float | None
    source: Mapping[str, str]


def reward_limits(rows: ResponseRows, baseline: str, thresholds: AuditSettings) -> RewardLimits:
    """Return the limits that `thresholds` sets, else the published ones or quantiles of these rows' own rewards.

    Rewards that are None or not finite are left out.
    """
    rewards = _rewards(rows)
    margins = [
        abs(value - rewards[prompt, sample, baseline])
        for (prompt, sample, policy), value in rewards.items()
        if policy != baseline and (prompt, sample, baseline) in rewards
    ]
    quantiles = {
        "mismatch_reward": (list(rewards.values()), thresholds.high_reward_quantile),
        "low_reward": (list(rewards.values()), thresholds.low_reward_quantile),
        "win_baseline_margin": (margins, thresholds.win_quantile),
        "win_other_margin": (margins, thresholds.other_quantile),
        "loss_margin": (margins, thresholds.loss_quantile),
    }
    limits: dict[str, float | None] = {}
    source: dict[str, str] = {}
    for name, (values, level) in quantiles.items():
        chosen = getattr(thresholds, name, None)
        if chosen is not None:
            limits[name], source[name] = float(chosen), "set"
        elif thresholds.reward_thresholds == "published" and name in PUBLISHED_LIMITS:
            limits[name], source[name] = PUBLISHED_LIMITS[name], "published"
        else:
            limits[name] = float(np.quantile(values, level)) if values else None
            source[name] = f"quantile {level:g}"
    return RewardLimits(**limits, source=source)


def queues(
    rows: ResponseRows, audited: AuditedRows, baseline: str, thresholds: AuditSettings, limits: RewardLimits
) -> dict[str, list[Key]]:
    """List the responses of each queue of `QUEUES`, in reading order.

    `audited` holds the measures and the flags of the kinds; the reason for a queue is added under "reasons".
    """
    rewards = _rewards(rows)
    keys_by_queue: dict[str, list[Key]] = {
        "reward_mismatch": _by(
            rewards, (k for k in audited if "reward_mismatch" in audited[k]["flags"]), highest=True
        ),
        **_against_baseline(rewards, audited, baseline, thresholds, limits),
        "scorers_disagree": _disagreements(rows, rewards, audited, thresholds.disagreement),
        "low_reward_useful": _low_but_useful(rows, rewards, audited, limits),
        "stem_procedure": [key_of(row) for row in rows if _is_stem_procedure(row)],
        "manual_review": _manual_review(rewards, audited, thresholds),
    }
    return {name: keys_by_queue[name] for name in QUEUES}


def _rewards(rows: ResponseRows) -> dict[Key, float]:
    return {
        key_of(row): float(row["reward"])
        for row in rows
        if row["reward"] is not None and np.isfinite(row["reward"])
    }


def _by(values: Mapping[Key, float], keys: Any, highest: bool) -> list[Key]:
    return sorted(keys, key=lambda key: -values[key] if highest else values[key])


def _reason(audited: AuditedRows, key: Key, queue: str, text: str) -> None:
    audited[key].setdefault("reasons", {})[queue] = text


def _against_baseline(
    rewards: Mapping[Key, float],
    audited: AuditedRows,
    baseline: str,
    thresholds: AuditSettings,
    limits: RewardLimits,
) -> dict[str, list[Key]]:
    """Find qualified wins (every other policy is beaten by its margin, no cap hit, little repetition) and strong losses."""
    groups: dict[tuple[str, int], dict[str, float]] = {}
    for (prompt, sample, policy), value in rewards.items():
        groups.setdefault((prompt, sample), {})[policy] = value
    wins: dict[Key, float] = {}
    losses: dict[Key, float] = {}
    for key, value in rewards.items():
        prompt, sample, policy = key
        margins = {name: value - other for name, other in groups[prompt, sample].items() if name != policy}
        if policy == baseline or baseline not in margins or limits.loss_margin is None:
            continue
        needed = {
            name: limits.win_baseline_margin if name == baseline else limits.win_other_margin
            for name in margins
        }
        measures = audited[key]
        clean = not measures["cap_hit"] and measures["repeated_4grams"] < thresholds.win_repetition
        text = f"{margins[baseline]:+.3f} against {baseline}"
        if clean and all(margin > (needed[name] or 0.0) for name, margin in margins.items()):
            wins[key] = margins[baseline]
            _reason(audited, key, "qualified_win", text)
        if margins[baseline] < -limits.loss_margin:
            losses[key] = margins[baseline]
            _reason(audited, key, "strong_loss", text)
    return {"qualified_win": _by(wins, wins, highest=True), "strong_loss": _by(losses, losses, highest=False)}


def _scorers(rows: ResponseRows) -> list[str]:
    return sorted({name for row in rows for name in row if name.startswith("score_")})


def _ranks(values: Mapping[Key, float]) -> dict[Key, float]:
    """Return the percentile rank of each value, ties at their middle, within (0, 1)."""
    ranks = (rankdata(list(values.values())) - 0.5) / len(values)
    return dict(zip(values, ranks.tolist(), strict=True))


def _scores(rows: ResponseRows, name: str) -> dict[Key, float]:
    return {
        key_of(row): float(row[name]) for row in rows if row.get(name) is not None and np.isfinite(row[name])
    }


def _disagreements(
    rows: ResponseRows, rewards: Mapping[Key, float], audited: AuditedRows, min_gap: float
) -> list[Key]:
    """Find responses whose percentile ranks by the first scorer's reward and by another scorer differ by `min_gap` or more."""
    gaps: dict[Key, float] = {}
    for name in _scorers(rows):
        scores = {key: value for key, value in _scores(rows, name).items() if key in rewards}
        if len(set(scores.values())) < 2:
            continue
        ranks, primary = _ranks(scores), _ranks({key: rewards[key] for key in scores})
        for key, rank in ranks.items():
            gap = abs(primary[key] - rank)
            if gap >= min_gap and gap > gaps.get(key, 0.0):
                gaps[key] = gap
                label = name.removeprefix("score_")
                text = f"percentile {100 * primary[key]:.0f} by reward, {100 * rank:.0f} by {label}"
                _reason(audited, key, "scorers_disagree", text)
    return _by(gaps, gaps, highest=True)


def _low_but_useful(
    rows: ResponseRows, rewards: Mapping[Key, float], audited: AuditedRows, limits: RewardLimits
) -> list[Key]:
    """Find low rewards of texts without defects that another measure finds useful.

    The other measure is the mean percentile rank by the other scorers (at least one half), or a run of words shared with
    the row's `reference`; without both, the relevance to the prompt.
    """
    ranks = [_ranks(scores) for name in _scorers(rows) if (scores := _scores(rows, name))]
    chosen: dict[Key, float] = {}
    for row in rows:
        key = key_of(row)
        measures = audited[key]
        if key not in rewards or limits.low_reward is None or not rewards[key] < limits.low_reward:
            continue
        if BROKEN & set(measures["flags"]) or "refusal" in measures["flags"]:
            continue
        useful = _usefulness(
            row, measures, [ranks_of_scorer[key] for ranks_of_scorer in ranks if key in ranks_of_scorer]
        )
        if useful:
            chosen[key] = rewards[key]
            _reason(audited, key, "low_reward_useful", useful)
    return _by(chosen, chosen, highest=False)


def _usefulness(row: Mapping[str, Any], measures: Mapping[str, Any], ranks: Sequence[float]) -> str | None:
    reference = str(row.get("reference") or "")
    shared_run = longest_common_run(words(reference), words(str(row["response"]))) if reference else 0
    if shared_run >= REFERENCE_RUN:
        return f"{shared_run} words in a row are the reference's"
    if ranks:
        mean = sum(ranks) / len(ranks)
        return f"percentile {100 * mean:.0f} by the other scorers" if mean >= 0.5 else None
    relevance = measures["relevance"].own
    return (
        f"has {relevance:.0%} of its prompt's terms" if relevance and relevance >= USEFUL_RELEVANCE else None
    )


def _is_stem_procedure(row: Mapping[str, Any]) -> bool:
    """Return whether a response has steps or quantities in a STEM domain, or both in any other."""
    text = str(row["response"])
    steps, quantities = len(_STEP.findall(text)) >= 3, len(_QUANTITY.findall(text)) >= 2
    in_domain = str(row.get("domain") or "").lower() in STEM_DOMAINS
    return steps or quantities if in_domain else steps and quantities


def _manual_review(
    rewards: Mapping[Key, float], audited: AuditedRows, thresholds: AuditSettings
) -> list[Key]:
    """Draw responses at random, independently of any measure, and add the extremes of each policy's rewards."""
    random_keys = random.Random(thresholds.review_seed).sample(
        sorted(audited), min(thresholds.review_rows, len(audited))
    )
    chosen = dict.fromkeys(random_keys, f"drawn at random with seed {thresholds.review_seed}")
    for policy in dict.fromkeys(key[2] for key in rewards) if thresholds.review_rows else ():
        ranked = _by(rewards, (key for key in rewards if key[2] == policy), highest=True)
        for keys, label in ((ranked[:EXTREMES], "highest"), (ranked[-EXTREMES:][::-1], "lowest")):
            for position, key in enumerate(keys, 1):
                chosen.setdefault(key, f"number {position} of the {label} rewards of {policy}")
    for key, text in chosen.items():
        _reason(audited, key, "manual_review", text)
    return list(chosen)
