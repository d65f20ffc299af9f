"""What a rollout batch says before anything is learnt from it. Units: nats, tokens, reward."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import StatisticsError, correlation, fmean, pstdev

import torch
from torch import Tensor

from harken.batches import PolicyOutputs, TokenBatch
from harken.maths.advantage import explained_variance
from harken.maths.diversity import distinct_n, unique_items
from harken.maths.masked import masked_mean
from harken.maths.repetition import repeated_ngram_fraction
from harken.records import Rollout, ScoredRollout
from harken.train.ppo.targets import PPOTargets

LEARNED = "reward_model"
"""The reward source whose score is `score/mean`."""
MOST_GROUPS = 12
"""With more domains (or languages) than this a line of metrics would be nothing else."""
CORRELATES = 8
"""A correlation of fewer answers than this says nothing: it is given as 0."""


def rollout_metrics(
    scored: Sequence[ScoredRollout],
    batch: TokenBatch,
    old: PolicyOutputs,
    targets: PPOTargets,
    *,
    score_clip: float | None = None,
) -> dict[str, float]:
    """Means over the batch: rewards by part, KL to the reference per sequence and per token, lengths, stops.

    `score_clip` is the bound that the reward model's scores were clipped to.
    """
    rollouts = [s.rollout for s in scored]
    metrics = _rewards(scored, score_clip) | _kl(batch, targets)
    metrics |= {
        "value/explained_var": float(explained_variance(old.values, targets.returns, targets.value_mask)),
        "value/mean": float(masked_mean(old.values, batch.response_mask)),
        "returns/mean": float(masked_mean(targets.returns, batch.response_mask)),
        "sampler/logprob_gap": _sampler_gap(rollouts, batch, old),
    }
    metrics |= response_metrics(rollouts, "response")
    # The names under which users of other tools look for the two.
    reward, nats = metrics["reward/mean"], metrics["kl/mean"]
    return metrics | {
        "reward_mean": reward, "ppo/mean_scores": reward, "kl_divergence": nats, "objective/kl": nats,
    }  # fmt: skip


def response_metrics(rollouts: Sequence[Rollout], prefix: str) -> dict[str, float]:
    """Length, end, emptiness and variety of answers, as `<prefix>/…`. Lengths in tokens, n-grams of tokens.

    `unique`, `cap_hit` and `empty` are shares of the answers; `distinct_1` and `distinct_2` are taken over
    all answers together; `repetition` is the mean share of an answer's 4-grams that it said before.
    """
    n = len(rollouts)
    tokens = [r.response_tokens for r in rollouts]
    lengths = [len(t) for t in tokens]
    measures = {
        "tokens_mean": fmean(lengths),
        "tokens_std": pstdev(lengths),
        "cap_hit": sum(r.stop == "length" for r in rollouts) / n,
        "empty": sum(not r.text.strip() for r in rollouts) / n,
        "unique": len({r.text for r in rollouts}) / n,
        "distinct_1": distinct_n(tokens, 1),
        "distinct_2": distinct_n(tokens, 2),
        "unique_tokens": float(unique_items(tokens)),
        "repetition": fmean(repeated_ngram_fraction(t, 4) for t in tokens),
    }
    return {f"{prefix}/{name}": value for name, value in measures.items()}


def _rewards(scored: Sequence[ScoredRollout], score_clip: float | None) -> dict[str, float]:
    rewards = [float(s.reward) for s in scored]
    metrics = {"reward/mean": fmean(rewards), "reward/std": pstdev(rewards)}
    metrics |= _by_group("reward/mean_", [s.rollout.prompt.domain for s in scored], rewards)
    metrics |= _by_group("reward/mean_language_", [s.rollout.prompt.language for s in scored], rewards)
    judged: list[tuple[float, int]] = []
    for part in scored[0].scores:
        pairs = list(_values(scored, part.source))
        if not pairs:
            continue
        values = [value for value, _ in pairs]
        metrics["score/mean" if part.source == LEARNED else f"score/{part.source}"] = fmean(values)
        if part.source == LEARNED:
            judged = pairs
            if score_clip is not None:
                metrics["reward/score_clipped"] = sum(abs(v) >= score_clip for v in values) / len(values)
    judged = judged or [(s.reward, len(s.rollout.response_tokens)) for s in scored]
    return metrics | {"reward/length_correlation": _correlation(judged)}


def _values(scored: Sequence[ScoredRollout], source: str) -> Iterable[tuple[float, int]]:
    """A source's known scores, each with its answer's length in tokens."""
    for row in scored:
        for score in row.scores:
            if score.source == source and score.value is not None:
                yield score.value, len(row.rollout.response_tokens)


def _correlation(pairs: Sequence[tuple[float, int]]) -> float:
    """Pearson's r; 0 where it is undefined (too few answers, or one side does not vary)."""
    if len(pairs) < CORRELATES:
        return 0.0
    try:
        return correlation([score for score, _ in pairs], [length for _, length in pairs])
    except StatisticsError:
        return 0.0


def _by_group(name: str, groups: Sequence[str], rewards: Sequence[float]) -> dict[str, float]:
    """Mean reward of each group, where there are some and not too many."""
    members: dict[str, list[float]] = defaultdict(list)
    for group, reward in zip(groups, rewards, strict=True):
        members[group or "none"].append(reward)
    if not 2 <= len(members) <= MOST_GROUPS:
        return {}
    return {f"{name}{group}": fmean(values) for group, values in sorted(members.items())}


def _kl(batch: TokenBatch, targets: PPOTargets) -> dict[str, float]:
    """k1 and k3 per sequence and per token. `kl/std_error` is of `kl/mean`, and needs two sequences."""
    kl = torch.where(batch.response_mask, targets.kl, 0.0)
    k3 = torch.expm1(-kl) + kl
    n = len(kl)
    metrics = {
        "kl/mean": float(kl.sum()) / n,
        "kl/per_token": float(masked_mean(kl, batch.response_mask)),
        "kl/k3_mean": float(k3.sum()) / n,
        "kl/k3_per_token": float(masked_mean(k3, batch.response_mask)),
    }
    if n > 1:
        metrics["kl/std_error"] = float(kl.sum(-1).std()) / n**0.5
    return metrics


def _sampler_gap(rollouts: Sequence[Rollout], batch: TokenBatch, old: PolicyOutputs) -> float:
    """Mean |log-probability of the sampler − of the trainer| over the sampled tokens, nats."""
    sampler: Tensor = torch.zeros_like(old.logprobs)
    sampler[batch.response_mask] = sampler.new_tensor([lp for r in rollouts for lp in r.sampler_logprobs])
    gap = torch.where(batch.response_mask, (old.logprobs - sampler).abs(), 0.0)
    return float(masked_mean(gap, batch.response_mask))
