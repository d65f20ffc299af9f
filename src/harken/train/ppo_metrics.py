"""What a rollout batch says before anything is learnt from it. Units: nats, tokens, reward."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from harken.batches import TokenBatch, TokenEvaluation
from harken.maths.advantage import explained_variance
from harken.maths.masked import masked_mean
from harken.maths.repetition import repeated_ngram_fraction
from harken.records import ScoredRollout
from harken.train.credit import Assigned


def rollout_metrics(
    scored: Sequence[ScoredRollout], batch: TokenBatch, old: TokenEvaluation, assigned: Assigned
) -> dict[str, float]:
    """Means over the batch: rewards by part, KL to the reference per sequence and per token, lengths, stops."""
    rewards = torch.tensor([s.reward for s in scored])
    rollouts = [s.rollout for s in scored]
    n = len(rollouts)
    kl = torch.where(batch.action, assigned.kl, 0.0)
    k3 = torch.expm1(-kl) + kl
    sampler = torch.zeros_like(kl)
    sampler[batch.action] = kl.new_tensor([lp for r in rollouts for lp in r.sampler_logprobs])
    gap = torch.where(batch.action, (old.logprobs - sampler).abs(), 0.0)
    lengths = [len(r.response_tokens) for r in rollouts]
    metrics = {
        "reward/mean": float(rewards.mean()),
        "reward/std": float(rewards.std(correction=0)),
        "kl/mean": float(kl.sum()) / n,
        "kl/per_token": float(masked_mean(kl, batch.action)),
        "kl/k3_mean": float(k3.sum()) / n,
        "kl/k3_per_token": float(masked_mean(k3, batch.action)),
        "value/explained_var": float(
            explained_variance(old.values, assigned.credit.returns, assigned.learnable)
        ),
        "value/mean": float(masked_mean(old.values, batch.action)),
        "returns/mean": float(masked_mean(assigned.credit.returns, batch.action)),
        "response/tokens_mean": sum(lengths) / n,
        "response/tokens_std": float(torch.tensor(lengths, dtype=torch.float32).std(correction=0)),
        "response/cap_hit": sum(r.stop == "length" for r in rollouts) / n,
        "response/empty": sum(not r.text.strip() for r in rollouts) / n,
        "response/unique": len({r.text for r in rollouts}) / n,
        "response/repetition": sum(repeated_ngram_fraction(r.response_tokens, 4) for r in rollouts) / n,
        "sampler/logprob_gap": float(masked_mean(gap, batch.action)),
    }
    for part in scored[0].scores:
        values = [s.value for row in scored for s in row.scores if s.source == part.source]
        known = [v for v in values if v is not None]
        if known:
            name = "score/mean" if part.source == "reward_model" else f"score/{part.source}"
            metrics[name] = sum(known) / len(known)
    metrics |= {"reward_mean": metrics["reward/mean"], "kl_divergence": metrics["kl/mean"]}
    return metrics
