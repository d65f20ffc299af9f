"""From rows of answers to the N-way and pairwise tables, every figure with its uncertainty. No torch.

A prompt is the unit of evidence. With several samples a prompt, its samples are averaged first, intervals
are drawn over prompts, and the sign test gives every prompt one vote.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harken.errors import UserError
from harken.maths.statistics import Interval, bootstrap_mean, sign_test, wilson_interval

REPETITIVE = 0.25
"""An answer counts as repetitive above this share of repeated word 4-grams (strictly)."""
CONFIDENCE = 0.95
MAX_LISTED = 5

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _ResponseTable:
    """The rows by place. A column is an array [prompts, samples] a policy, NaN where there is no value."""

    policies: list[str]
    keys: list[list[tuple[str, int]]]
    domains: list[str]
    rows: dict[tuple[str, str, int], Mapping[str, Any]]

    def column(self, policy: str, name: str) -> Numbers:
        values = [[self.rows[policy, p, s][name] for p, s in samples] for samples in self.keys]
        return np.array([[np.nan if v is None else float(v) for v in row] for row in values])


def compare(
    rows: Sequence[Mapping[str, Any]],
    *,
    judges: Sequence[str] = (),
    tie_epsilon: float = 0.0,
    seed: int = 0,
    draws: int = 10_000,
) -> dict[str, Any]:
    """The summary of an evaluation as a plain dict, ready for JSON; the same rows and seed give the same.

    `rows` are those of `responses.parquet`; policies keep the order in which they appear, and the first is
    the baseline. "table" has one entry a policy, "ties" the prompts without a unique best reward, "pairs"
    one entry for each two policies, left before right, by overall and by domain. A mean or rate is
    {"value", "low", "high"} with a 95 % interval, or None where nothing was judged.

    Raises UserError when policies answered different prompts (it names them), a prompt has another number
    of samples than the rest, an answer stands there twice, or a reward is not finite.
    """
    answers = _build_table(rows)
    rewards = {p: answers.column(p, "reward") for p in answers.policies}
    best, ties = _winners(rewards, tie_epsilon)
    pairs = [
        _pair_figures(answers, left, right, judges, tie_epsilon, seed, draws)
        for left, right in combinations(answers.policies, 2)
    ]
    for pair, p in zip(pairs, holm([pair["sign_test_p"] for pair in pairs]), strict=True):
        pair["holm_p"] = p
    prompts, samples = len(answers.keys), len(answers.keys[0])
    return {
        "policies": answers.policies,
        "baseline": answers.policies[0],
        "judges": list(judges),
        "n": prompts * samples,
        "prompts": prompts,
        "samples": samples,
        "tie_epsilon": tie_epsilon,
        "repetitive_above": REPETITIVE,
        "confidence": CONFIDENCE,
        "seed": seed,
        "draws": draws,
        "detectable_win_rate": detectable_win_rate(prompts),
        "table": [_policy_figures(answers, p, best[p], judges, seed, draws) for p in answers.policies],
        "ties": _rate(ties, seed, draws),
        "pairs": pairs,
        "domains": {d: answers.domains.count(d) for d in sorted(set(answers.domains))},
    }


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number, in the order given. Source: Holm 1979, Scand. J. Statist. 6:65."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def detectable_win_rate(n: int, power: float = 0.8, confidence: float = CONFIDENCE) -> float:
    """The smallest true win rate above one half that n decided prompts show with this power, two-sided.

    Normal approximation at p = 1/2; 1 when n is too small for any. n=200: 0.599, n=2017: 0.531.
    """
    z = NormalDist().inv_cdf
    return min(1.0, 0.5 + (z(0.5 + confidence / 2) + z(power)) * 0.5 / math.sqrt(n))


def _build_table(rows: Sequence[Mapping[str, Any]]) -> _ResponseTable:
    if not rows:
        raise UserError("no answers to compare", where="responses", fix="Evaluate at least one prompt")
    table: dict[tuple[str, str, int], Mapping[str, Any]] = {}
    prompts: dict[str, dict[tuple[str, int], None]] = {}
    domains: dict[str, str] = {}
    for row in rows:
        policy, prompt, sample = row["policy"], row["prompt_id"], row["sample"]
        if (policy, prompt, sample) in table:
            raise UserError(f"{policy} answered prompt {prompt!r} twice (sample {sample})", where="responses")
        if row["reward"] is None or not math.isfinite(row["reward"]):
            raise UserError(f"{policy} has reward {row['reward']} on prompt {prompt!r}", where="responses")
        table[policy, prompt, sample] = row
        prompts.setdefault(policy, {})[prompt, sample] = None
        domains.setdefault(prompt, row["domain"] or "")
    everything = list(dict.fromkeys(key for keys in prompts.values() for key in keys))
    for policy, keys in prompts.items():
        missing = [key for key in everything if key not in keys]
        if missing:
            raise UserError(
                f"{policy} has no answer to {_list_keys(missing)}",
                where="responses",
                fix="Compare policies on the same prompts and samples",
            )
    grouped: dict[str, list[tuple[str, int]]] = {}
    for prompt, sample in everything:
        grouped.setdefault(prompt, []).append((prompt, sample))
    usual = len(next(iter(grouped.values())))
    odd = [keys[0] for keys in grouped.values() if len(keys) != usual]
    if odd:
        raise UserError(
            f"prompts have different numbers of samples: {usual}, but not for {_list_keys(odd)}",
            where="responses",
            fix="Sample every prompt equally often",
        )
    return _ResponseTable(list(prompts), list(grouped.values()), [domains[p] for p in grouped], table)


def _list_keys(keys: Sequence[tuple[str, int]]) -> str:
    names = [
        f"{prompt!r}" if sample == 0 else f"{prompt!r} sample {sample}"
        for prompt, sample in keys[:MAX_LISTED]
    ]
    more = f" and {len(keys) - MAX_LISTED} more" if len(keys) > MAX_LISTED else ""
    return f"{len(keys)} of the prompts: {', '.join(names)}{more}"


def _winners(rewards: Mapping[str, Numbers], epsilon: float) -> tuple[dict[str, NDArray[Any]], NDArray[Any]]:
    """Where each policy has the one reward that is above all others by more than epsilon; where none has."""
    stacked = np.stack(list(rewards.values()))
    near_top = stacked >= stacked.max(axis=0) - epsilon
    tied = near_top.sum(axis=0) > 1
    return {p: near_top[i] & ~tied for i, p in enumerate(rewards)}, tied


def _policy_figures(
    answers: _ResponseTable, policy: str, wins: NDArray[Any], judges: Sequence[str], seed: int, draws: int
) -> dict[str, Any]:
    def column(name: str) -> Numbers:
        return answers.column(policy, name)

    return {
        "policy": policy,
        "win_rate": _rate(wins, seed, draws),
        "reward": _mean(column("reward"), seed, draws),
        "median_response_tokens": float(np.median(column("response_tokens"))),
        "cap_hit": _rate(column("cap_hit"), seed, draws),
        "empty": _rate(column("empty"), seed, draws),
        "repetition": _rate(column("repeated_4grams") > REPETITIVE, seed, draws),
        "judges": {j: _mean(column(f"score_{j}"), seed, draws) for j in judges},
    }


def _pair_figures(
    answers: _ResponseTable,
    left: str,
    right: str,
    judges: Sequence[str],
    epsilon: float,
    seed: int,
    draws: int,
) -> dict[str, Any]:
    def difference(name: str) -> Numbers:
        return answers.column(right, name) - answers.column(left, name)

    def repetitive(policy: str) -> Numbers:
        return (answers.column(policy, "repeated_4grams") > REPETITIVE).astype(float)

    reward, scores = difference("reward"), {j: difference(f"score_{j}") for j in judges}
    domains = np.array(answers.domains)
    per_prompt = reward.mean(axis=1)
    spread = float(per_prompt.std(ddof=1)) if len(per_prompt) > 1 else 0.0
    return {
        "left": left,
        "right": right,
        **_head_to_head(reward, scores, epsilon, seed, draws),
        "sign_test_p": _sign_test(np.where(np.abs(reward) <= epsilon, 0, np.sign(reward))),
        "median_difference": float(np.median(reward)),
        "cohen_dz": float(per_prompt.mean()) / spread if spread > 0 else None,
        "cap_hit": _rate_change(difference("cap_hit"), seed, draws),
        "repetition": _rate_change(repetitive(right) - repetitive(left), seed, draws),
        "domains": {
            domain: _head_to_head(
                reward[domains == domain],
                {j: d[domains == domain] for j, d in scores.items()},
                epsilon,
                seed,
                draws,
            )
            for domain in sorted(set(answers.domains))
        },
    }


def _head_to_head(
    reward: Numbers, scores: Mapping[str, Numbers], epsilon: float, seed: int, draws: int
) -> dict[str, Any]:
    """Right against left: counts over all rows, and mean differences.

    `win_rate` is wins ÷ (wins + ties + losses): a tie is no win, and counts in the denominator.
    """
    wins, losses = reward > epsilon, reward < -epsilon
    ties = reward.size - int(wins.sum()) - int(losses.sum())
    return {
        "n": reward.size,
        "wins": int(wins.sum()),
        "ties": ties,
        "losses": int(losses.sum()),
        "win_rate": _rate(wins, seed, draws),
        "reward": _mean(reward, seed, draws),
        "judges": {j: _mean(d, seed, draws) for j, d in scores.items()},
    }


def _sign_test(signs: Numbers) -> float:
    """One vote a prompt: the side with more of its samples."""
    votes = signs.sum(axis=1)
    return sign_test(int((votes > 0).sum()), int((votes < 0).sum()))


def _rate_change(difference: Numbers, seed: int, draws: int) -> dict[str, Any]:
    """The change of a rate, right minus left. `mcnemar_p`: exact, one vote a prompt that differs."""
    return {
        **_mean_interval(difference, seed, draws),
        "only_right": int((difference > 0).sum()),
        "only_left": int((difference < 0).sum()),
        "mcnemar_p": _sign_test(difference),
    }


def _rate(holds: NDArray[Any], seed: int, draws: int) -> dict[str, Any]:
    """A count and rate over all rows. One sample a prompt: Wilson. Several: bootstrap over prompts.

    Where all samples agree the bootstrap would claim certainty, so Wilson over prompts stands in.
    """
    count, (prompts, samples) = int(holds.sum()), holds.shape
    if samples == 1 or count in (0, holds.size):
        low, high = wilson_interval(count // samples, prompts, CONFIDENCE)
    else:
        drawn = bootstrap_mean(holds.mean(axis=1), draws, seed, CONFIDENCE)
        low, high = drawn.low, drawn.high
    return {"count": count, "value": count / holds.size, "low": low, "high": high}


def _mean(values: Numbers, seed: int, draws: int) -> dict[str, Any] | None:
    """Mean over the prompts that have a value, with its bootstrap interval; `n` counts them."""
    known = ~np.isnan(values)
    judged = known.any(axis=1)
    if not judged.any():
        return None
    sums = np.where(known, values, 0.0).sum(axis=1)
    return _interval(sums[judged] / known.sum(axis=1)[judged], seed, draws)


def _mean_interval(values: Numbers, seed: int, draws: int) -> dict[str, Any]:
    return _interval(values.mean(axis=1), seed, draws)


def _interval(per_prompt: Numbers, seed: int, draws: int) -> dict[str, Any]:
    interval: Interval = bootstrap_mean(per_prompt, draws, seed, CONFIDENCE)
    return {"value": interval.mean, "low": interval.low, "high": interval.high, "n": len(per_prompt)}
