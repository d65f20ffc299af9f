"""Compute the metrics of a rollout batch before its optimiser steps. Units: nats, tokens, reward."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import StatisticsError, correlation, fmean, pstdev

import torch
from torch import Tensor

from harken.batches import PolicyOutputs, TokenBatch
from harken.maths.advantage import explained_variance
from harken.maths.diversity import distinct_n, unique_items
from harken.maths.masked import masked_mean
from harken.maths.repetition import repeated_ngram_fraction
from harken.records import REWARD_MODEL, Rollout, ScoredRollout
from harken.train.groups import by_domain_and_language
from harken.train.ppo.targets import PPOTargets

MIN_RESPONSES_TO_CORRELATE = 8
"""The correlation over fewer responses than this is noise and is set to 0."""


def rollout_metrics(
    scored: Sequence[ScoredRollout],
    batch: TokenBatch,
    old: PolicyOutputs,
    targets: PPOTargets,
    *,
    score_clip: float | None = None,
) -> dict[str, float]:
    """Average over the batch: rewards by source, KL from the reference per sequence and token, lengths, stop reasons.

    `score_clip` is the bound to which the reward model's scores were clipped.
    """
    rollouts = [s.rollout for s in scored]
    metrics = reward_metrics(scored, score_clip) | _kl(batch, targets)
    metrics |= {
        "value/explained_var": float(explained_variance(old.values, targets.returns, targets.value_mask)),
        "value/mean": float(masked_mean(old.values, batch.response_mask)),
        "returns/mean": float(masked_mean(targets.returns, batch.response_mask)),
        "sampler/logprob_gap": _sampler_gap(rollouts, batch, old),
    }
    metrics |= response_metrics(rollouts, "response")
    # Aliases used by other tools (TRL: objective/kl).
    reward, kl = metrics["reward/mean"], metrics["kl/mean"]
    return metrics | {
        "reward_mean": reward, "ppo/mean_scores": reward, "kl_divergence": kl, "objective/kl": kl,
    }  # fmt: skip


def response_metrics(rollouts: Sequence[Rollout], prefix: str) -> dict[str, float]:
    """Measure length, truncation, emptiness and diversity of responses, as `<prefix>/…`. Lengths and n-grams in tokens.

    `cap_hit` (truncated), `empty` and `unique` are fractions of the responses. `distinct_1` and `distinct_2` are
    computed over all responses together. `repetition` is the mean fraction of a response's 4-grams that occurred in it
    before.
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


def reward_metrics(scored: Sequence[ScoredRollout], score_clip: float | None) -> dict[str, float]:
    """Average the rewards, overall and by domain, language and part, and correlate scores with lengths."""
    rewards = [float(s.reward) for s in scored]
    metrics = {"reward/mean": fmean(rewards), "reward/std": pstdev(rewards)}
    metrics |= by_domain_and_language("reward/mean", [s.rollout.prompt for s in scored], rewards)
    score_and_length: list[tuple[float, int]] = []
    for part in scored[0].scores:
        pairs = list(_scores_and_lengths(scored, part.source))
        if not pairs:
            continue
        values = [value for value, _ in pairs]
        metrics["score/mean" if part.source == REWARD_MODEL else f"score/{part.source}"] = fmean(values)
        if part.source == REWARD_MODEL:
            score_and_length = pairs
            if score_clip is not None:
                metrics["reward/score_clipped"] = sum(abs(v) >= score_clip for v in values) / len(values)
    score_and_length = score_and_length or [(s.reward, len(s.rollout.response_tokens)) for s in scored]
    return metrics | {"reward/length_correlation": _correlation(score_and_length)}


def _scores_and_lengths(scored: Sequence[ScoredRollout], source: str) -> Iterable[tuple[float, int]]:
    """Yield a source's scores that are not None, each with the length of its response in tokens."""
    for row in scored:
        for score in row.scores:
            if score.source == source and score.value is not None:
                yield score.value, len(row.rollout.response_tokens)


def _correlation(pairs: Sequence[tuple[float, int]]) -> float:
    """Compute Pearson's r; 0 if there are too few responses or one variable is constant."""
    if len(pairs) < MIN_RESPONSES_TO_CORRELATE:
        return 0.0
    try:
        return correlation([score for score, _ in pairs], [length for _, length in pairs])
    except StatisticsError:
        return 0.0


def _kl(batch: TokenBatch, targets: PPOTargets) -> dict[str, float]:
    """Average k1 and k3 per sequence and per token. `kl/std_error`, that of `kl/mean`, needs two sequences."""
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
    """Average |log-probability in the sampler − in training| over the sampled tokens, nats."""
    sampler: Tensor = torch.zeros_like(old.logprobs)
    sampler[batch.response_mask] = sampler.new_tensor([lp for r in rollouts for lp in r.sampler_logprobs])
    gap = torch.where(batch.response_mask, (old.logprobs - sampler).abs(), 0.0)
    return float(masked_mean(gap, batch.response_mask))
