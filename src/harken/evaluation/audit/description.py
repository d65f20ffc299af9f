"""Summarise an audit in sentences, with numbers and row ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harken.evaluation.audit.keys import Key, ResponseRows, key_of
from harken.evaluation.audit.kinds import KINDS, QUEUES
from harken.maths.statistics.intervals import wilson_interval
from harken.maths.statistics.paired import sign_test

SHOWN = 5
"""Row ids that a sentence names."""
ALPHA = 0.05
REPEATING = ("repetition", "character_repetition", "loop", "repeated_items")
STOPPING = ("cap_hit", "broken_off", "empty", "overlong")


@dataclass(frozen=True, slots=True)
class KindRate:
    """How often a policy's responses have one kind of failure, with its 95 % Wilson interval.

    `gained` and `lost` count prompts (and samples) where only this policy, or only the baseline, has the kind;
    `mcnemar_p` is the exact two-sided McNemar test on them. They are None for the baseline itself.
    """

    policy: str
    kind: str
    count: int
    n: int
    low: float
    high: float
    gained: int | None
    lost: int | None
    mcnemar_p: float | None


def kind_rates(rows: ResponseRows, audited: Mapping[Key, Mapping[str, Any]], baseline: str) -> list[KindRate]:
    """Return the rate of every kind for every policy, in the order of the rows' policies.

    Source: Wilson 1927; McNemar 1947, Psychometrika 12:153, in its exact form: the sign test of discordant pairs.
    """
    keys: dict[str, list[Key]] = {}
    for row in rows:
        keys.setdefault(row["policy"], []).append(key_of(row))
    rates = []
    for policy, policy_keys in keys.items():
        for kind in KINDS:
            has_kind = {key[:2]: kind in audited[key]["flags"] for key in policy_keys}
            low, high = wilson_interval(sum(has_kind.values()), len(policy_keys))
            only_policy = only_baseline = p = None
            if policy != baseline and baseline in keys:
                baseline_has_kind = {key[:2]: kind in audited[key]["flags"] for key in keys[baseline]}
                shared_samples = [sample for sample in has_kind if sample in baseline_has_kind]
                only_policy = sum(
                    has_kind[sample] and not baseline_has_kind[sample] for sample in shared_samples
                )
                only_baseline = sum(
                    baseline_has_kind[sample] and not has_kind[sample] for sample in shared_samples
                )
                p = sign_test(only_policy, only_baseline)
            rates.append(
                KindRate(
                    policy,
                    kind,
                    sum(has_kind.values()),
                    len(policy_keys),
                    low,
                    high,
                    only_policy,
                    only_baseline,
                    p,
                )
            )
    return rates


def describe(
    rows: ResponseRows, audited: Mapping[Key, Mapping[str, Any]], summary: Mapping[str, Any]
) -> list[str]:
    """Return sentences on wins, failures by kind, high rewards for repetitive text, and the queues to read.

    `summary` is that of `compare.compare`: its baseline and its pairs with wins, ties, losses and `sign_test_p`.
    """
    if not rows:
        return ["There are no responses."]
    baseline = str(summary["baseline"])
    rates = kind_rates(rows, audited, baseline)
    policies = list(dict.fromkeys(row["policy"] for row in rows))
    lines = [_pair_sentence(pair) for pair in summary.get("pairs", ())]
    for policy in policies:
        lines += _policy_sentences(
            policy, baseline, [rate for rate in rates if rate.policy == policy], rates, audited
        )
    lines += _mismatch_sentences(policies, rows, audited)
    lines.append(_reading_order(audited))
    return lines


def _pair_sentence(pair: Mapping[str, Any]) -> str:
    left, right = pair["left"], pair["right"]
    wins, ties, losses, p = (pair[key] for key in ("wins", "ties", "losses", "sign_test_p"))
    p = pair.get("holm_p", p)
    if p >= ALPHA:
        verdict = f"{right} is not shown to beat {left} or to lose to it"
    else:
        verdict = f"{right} beats {left}" if wins > losses else f"{right} loses to {left}"
    return (
        f"By the reward {verdict}: {wins} wins, {ties} ties and {losses} losses on {wins + ties + losses} "
        f"responses (exact sign test without ties, p = {p:.2g}{' after Holm' if 'holm_p' in pair else ''})."
    )


def _policy_sentences(
    policy: str,
    baseline: str,
    policy_rates: Sequence[KindRate],
    rates: Sequence[KindRate],
    audited: Mapping[Key, Mapping[str, Any]],
) -> list[str]:
    n = policy_rates[0].n
    flagged = sum(
        key[2] == policy and bool(set(KINDS) & set(measures["flags"])) for key, measures in audited.items()
    )
    lines = [f"{policy}: {flagged} of {n} responses have at least one of the {len(KINDS)} kinds of failure."]
    of_baseline = {rate.kind: rate for rate in rates if rate.policy == baseline}
    tests = sum(rate.mcnemar_p is not None for rate in rates)
    changed = [rate for rate in policy_rates if rate.mcnemar_p is not None and rate.mcnemar_p * tests < ALPHA]
    for rate in sorted(changed, key=lambda rate: rate.mcnemar_p or 0.0):
        baseline_rate, is_higher = of_baseline[rate.kind], (rate.gained or 0) > (rate.lost or 0)
        lines.append(
            f"{policy} has {'more' if is_higher else 'less'} {rate.kind} than {baseline}: "
            f"{_share(rate)} against {_share(baseline_rate)}; "
            f"{rate.gained} prompts have it with {policy} alone and {rate.lost} with {baseline} alone "
            f"(exact McNemar p = {rate.mcnemar_p:.2g}, {tests} tests{_examples(audited, policy, rate.kind)})."
        )
    if policy != baseline and not changed and policy_rates[0].mcnemar_p is not None:
        lines.append(
            f"No kind of failure differs between {policy} and {baseline} "
            f"(exact McNemar tests, Bonferroni over {tests})."
        )
    reported_kinds = {rate.kind for rate in changed}
    other_rates = [
        rate
        for rate in policy_rates
        if rate.count and rate.kind not in reported_kinds and rate.kind in (*REPEATING, *STOPPING)
    ]
    if other_rates:
        lines.append(
            f"{policy}, repetition and stopping: "
            + "; ".join(f"{rate.kind} {_share(rate)}" for rate in other_rates)
            + "."
        )
    return lines


def _share(rate: KindRate) -> str:
    return f"{rate.count} of {rate.n} ({rate.count / rate.n:.2%}, 95 % interval {rate.low:.2%} to {rate.high:.2%})"


def _examples(audited: Mapping[Key, Mapping[str, Any]], policy: str, flag: str) -> str:
    ids = [_name(key) for key, measures in audited.items() if key[2] == policy and flag in measures["flags"]]
    return f"; rows {', '.join(ids[:SHOWN])}" if ids else ""


def _name(key: Key) -> str:
    return key[0] if key[1] == 0 else f"{key[0]}/{key[1]}"


def _mismatch_sentences(
    policies: Sequence[str], rows: ResponseRows, audited: Mapping[Key, Mapping[str, Any]]
) -> list[str]:
    """Say for each policy how many repetitive responses have a high reward, and its mean reward without them."""
    lines = []
    for policy in policies:
        rewarded_rows = [row for row in rows if row["policy"] == policy and row["reward"] is not None]
        mismatches = [row for row in rewarded_rows if "reward_mismatch" in audited[key_of(row)]["flags"]]
        if not mismatches:
            continue
        ranked = sorted(mismatches, key=lambda row: -row["reward"])
        mean = sum(row["reward"] for row in rewarded_rows) / len(rewarded_rows)
        other_rewards = [
            row["reward"] for row in rewarded_rows if "reward_mismatch" not in audited[key_of(row)]["flags"]
        ]
        without = (
            f"; without them it is {sum(other_rewards) / len(other_rewards):+.4f}" if other_rewards else ""
        )
        named = ", ".join(f"{_name(key_of(row))} ({row['reward']:+.3f})" for row in ranked[:SHOWN])
        low, high = wilson_interval(len(mismatches), len(rewarded_rows))
        lines.append(
            f"{policy} has high rewards for repetitive text in {len(mismatches)} of {len(rewarded_rows)} responses "
            f"({len(mismatches) / len(rewarded_rows):.2%}, 95 % interval {low:.2%} to {high:.2%}), "
            f"the highest rewards at {named}. "
            f"The mean reward of {policy} is {mean:+.4f}{without}."
        )
    if not lines:
        lines.append("No response has a high reward for a text that repeats itself.")
    return lines


def _reading_order(audited: Mapping[Key, Mapping[str, Any]]) -> str:
    counts = {queue: sum(queue in measures["flags"] for measures in audited.values()) for queue in QUEUES}
    filled = [f"{queue} ({counts[queue]}: {QUEUES[queue]})" for queue in QUEUES if counts[queue]]
    return f"Read the queues in this order: {', '.join(filled)}." if filled else "No queue holds a response."
