"""Best of n: the response that the first scorer prefers, and how far that is from the policy it samples from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from harken.config import EvaluationConfig
from harken.evaluate.responses import PolicyResponses


def kl_bound(n: int) -> float:
    """Return log n − (n − 1) / n, in nats: the most that KL(best of n || policy) can be.

    It is the KL itself when no two samples tie. Source: Stiennon et al. 2020 (arXiv:2009.01325), appendix G.3;
    Beirami et al. 2024 (arXiv:2401.01879) show that it is an upper bound.
    """
    if n < 1:
        raise ValueError(f"n is {n}; it must be at least 1")
    return math.log(n) - (n - 1) / n


def kl_bounds(config: EvaluationConfig) -> dict[str, dict[str, float]]:
    """Return n and the bound on the KL, in nats per sequence, of every policy that is the best of n."""
    return {
        name: {"n": policy.best_of, "kl_bound": kl_bound(policy.best_of)}
        for name, policy in config.policies.items()
        if policy.best_of
    }


def choose(candidates: PolicyResponses, scores: Sequence[float], n: int, samples: int) -> PolicyResponses:
    """Return, for each prompt and sample, the best of its next `n` candidates; the first of equal ones.

    `candidates` has `n` × `samples` responses per prompt, and `scores` one score for each.
    """
    rollouts, kept = [], []
    for start in range(0, len(scores), n):
        best = max(range(start, start + n), key=lambda i: scores[i])
        rollouts.append(replace(candidates.rollouts[best], sample=start // n % samples))
        kept.append(scores[best])
    return replace(candidates, rollouts=rollouts, chosen_scores=kept)
