"""Compare policies N-way and pairwise from rows of responses, every figure with its uncertainty. No torch.

The prompt is the sampling unit. With several samples per prompt, the samples are averaged first, the bootstrap
resamples prompts, and the sign test counts every prompt once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harken.errors import UserError
from harken.maths.statistics.intervals import Interval, bootstrap_mean, wilson_interval
from harken.maths.statistics.multiplicity import holm
from harken.maths.statistics.paired import sign_test
from harken.maths.statistics.power import detectable_win_rate

REPETITIVE = 0.25
"""A response is repetitive strictly above this share of repeated word 4-grams."""
CONFIDENCE = 0.95
MAX_LISTED = 5

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _ResponseTable:
    """Index the rows by policy, prompt and sample.

    A column of one policy is an array [prompts, samples], NaN where there is no value.
    """

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
    """Summarise an evaluation as a dict for JSON. The same rows and seed give the same summary.

    `rows` are those of `responses.parquet`. Policies keep the order in which they appear, and the first is the
    baseline. "table" has one entry per policy, "ties" counts the rows without a unique best reward, and "pairs" has
    one entry per pair of policies, left before right, overall and by domain. A mean or rate is
    {"value", "low", "high"} with a 95 % interval, or None where nothing was judged.

    Raises UserError when policies have responses to different prompts, which it names, when prompts have different
    numbers of samples, when a response occurs twice, or when a reward is not finite.
    """
    responses = _build_table(rows)
    rewards = {p: responses.column(p, "reward") for p in responses.policies}
    best, ties = _winners(rewards, tie_epsilon)
    pairs = [
        _pair_figures(responses, left, right, judges, tie_epsilon, seed, draws)
        for left, right in combinations(responses.policies, 2)
    ]
    for pair, p in zip(pairs, holm([pair["sign_test_p"] for pair in pairs]), strict=True):
        pair["holm_p"] = p
    prompts, samples = len(responses.keys), len(responses.keys[0])
    return {
        "policies": responses.policies,
        "baseline": responses.policies[0],
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
        "table": [_policy_figures(responses, p, best[p], judges, seed, draws) for p in responses.policies],
        "ties": _rate(ties, seed, draws),
        "pairs": pairs,
        "domains": {d: responses.domains.count(d) for d in sorted(set(responses.domains))},
    }


def _build_table(rows: Sequence[Mapping[str, Any]]) -> _ResponseTable:
    if not rows:
        raise UserError("no responses to compare", where="responses", fix="evaluate at least one prompt")
    table: dict[tuple[str, str, int], Mapping[str, Any]] = {}
    prompts: dict[str, dict[tuple[str, int], None]] = {}
    domains: dict[str, str] = {}
    for row in rows:
        policy, prompt, sample = row["policy"], row["prompt_id"], row["sample"]
        if (policy, prompt, sample) in table:
            raise UserError(
                f"{policy} has two responses to prompt {prompt!r}, sample {sample}", where="responses"
            )
        if row["reward"] is None or not math.isfinite(row["reward"]):
            raise UserError(f"{policy} has reward {row['reward']} on prompt {prompt!r}", where="responses")
        table[policy, prompt, sample] = row
        prompts.setdefault(policy, {})[prompt, sample] = None
        domains.setdefault(prompt, row["domain"] or "")
    all_keys = list(dict.fromkeys(key for keys in prompts.values() for key in keys))
    for policy, keys in prompts.items():
        missing = [key for key in all_keys if key not in keys]
        if missing:
            raise UserError(
                f"{policy} has no response to {_list_keys(missing)}",
                where="responses",
                fix="compare policies on the same prompts and samples",
            )
    grouped: dict[str, list[tuple[str, int]]] = {}
    for prompt, sample in all_keys:
        grouped.setdefault(prompt, []).append((prompt, sample))
    expected_samples = len(next(iter(grouped.values())))
    uneven = [keys[0] for keys in grouped.values() if len(keys) != expected_samples]
    if uneven:
        raise UserError(
            f"prompts have different numbers of samples: {expected_samples}, but not for {_list_keys(uneven)}",
            where="responses",
            fix="sample every prompt equally often",
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
    """Mark where each policy's reward is above all others by more than epsilon, and where no policy's is."""
    stacked = np.stack(list(rewards.values()))
    near_top = stacked >= stacked.max(axis=0) - epsilon
    tied = near_top.sum(axis=0) > 1
    return {p: near_top[i] & ~tied for i, p in enumerate(rewards)}, tied


def _policy_figures(
    responses: _ResponseTable, policy: str, wins: NDArray[Any], judges: Sequence[str], seed: int, draws: int
) -> dict[str, Any]:
    def column(name: str) -> Numbers:
        return responses.column(policy, name)

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
    responses: _ResponseTable,
    left: str,
    right: str,
    judges: Sequence[str],
    epsilon: float,
    seed: int,
    draws: int,
) -> dict[str, Any]:
    def difference(name: str) -> Numbers:
        return responses.column(right, name) - responses.column(left, name)

    def repetitive(policy: str) -> Numbers:
        return (responses.column(policy, "repeated_4grams") > REPETITIVE).astype(float)

    reward, scores = difference("reward"), {j: difference(f"score_{j}") for j in judges}
    domains = np.array(responses.domains)
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
            for domain in sorted(set(responses.domains))
        },
    }


def _head_to_head(
    reward: Numbers, scores: Mapping[str, Numbers], epsilon: float, seed: int, draws: int
) -> dict[str, Any]:
    """Compare right with left: win, tie and loss counts over all rows, and mean differences.

    `win_rate` is wins ÷ (wins + ties + losses): a tie counts in the denominator only.
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
    """Compute the sign test's p with one vote per prompt: the side that wins more of its samples."""
    votes = signs.sum(axis=1)
    return sign_test(int((votes > 0).sum()), int((votes < 0).sum()))


def _rate_change(difference: Numbers, seed: int, draws: int) -> dict[str, Any]:
    """Compute the change of a rate, right minus left. `mcnemar_p` is exact, with one vote per prompt that differs."""
    return {
        **_mean_interval(difference, seed, draws),
        "only_right": int((difference > 0).sum()),
        "only_left": int((difference < 0).sum()),
        "mcnemar_p": _sign_test(difference),
    }


def _rate(mask: NDArray[Any], seed: int, draws: int) -> dict[str, Any]:
    """Compute a count and rate over all rows, with a Wilson interval, or a bootstrap over prompts for several samples.

    Where all rows agree the bootstrap interval would have width 0, so Wilson over prompts is used instead.
    """
    count, (prompts, samples) = int(mask.sum()), mask.shape
    if samples == 1 or count in (0, mask.size):
        low, high = wilson_interval(count // samples, prompts, CONFIDENCE)
    else:
        drawn = bootstrap_mean(mask.mean(axis=1), draws, seed, CONFIDENCE)
        low, high = drawn.low, drawn.high
    return {"count": count, "value": count / mask.size, "low": low, "high": high}


def _mean(values: Numbers, seed: int, draws: int) -> dict[str, Any] | None:
    """Compute the mean over the `n` prompts that have a value, with its bootstrap interval; None without any."""
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
