"""Choose the best of n responses by the first scorer, and bound its KL from the policy that it samples from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harken.config import EvaluationConfig
from harken.evaluation.responses import PolicyResponses
from harken.maths.theory import best_of_n_kl


def kl_bounds(config: EvaluationConfig) -> dict[str, dict[str, float]]:
    """Return n and the bound on the KL, in nats per sequence, of every policy that is the best of n."""
    return {
        name: {"n": policy.best_of, "kl_bound": best_of_n_kl(policy.best_of)}
        for name, policy in config.policies.items()
        if policy.best_of
    }


def choose(candidates: PolicyResponses, scores: Sequence[float], n: int, samples: int) -> PolicyResponses:
    """Return, for each prompt and sample, the best of its next `n` candidates; ties keep the first.

    `candidates` has `n` × `samples` responses per prompt, and `scores` one score for each.
    """
    rollouts, best_scores = [], []
    for start in range(0, len(scores), n):
        best = max(range(start, start + n), key=lambda i: scores[i])
        rollouts.append(replace(candidates.rollouts[best], sample=start // n % samples))
        best_scores.append(scores[best])
    return replace(candidates, rollouts=rollouts, chosen_scores=best_scores)
