"""Estimate what optimisation against a reward model can gain: the best of n given samples of each prompt.

Best-of-n is the policy that draws n responses and keeps the one with the highest reward. Its KL from the sampling
policy is at most log n − (n − 1)/n nats (Stiennon et al. 2020, arXiv:2009.01325; Beirami et al. 2024,
arXiv:2401.01879). A policy trained by PPO at the same KL should reach at least its reward.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harken.card.scored import Section, interval_section
from harken.maths.statistics.overoptimisation import best_of_n_mean
from harken.maths.theory import best_of_n_kl


def best_of_n_curve(
    rewards: Sequence[Sequence[float]], judged: Mapping[str, Sequence[Sequence[float]]]
) -> list[Section]:
    """Compute the expected reward of the best of n = 1, 2, 4 … samples, over prompts, with 95 % intervals.

    `rewards[i]` are the rewards of prompt i's samples; `judged` has further scores of the same samples, whose expected
    value at the sample with the highest reward is computed. Prompts with fewer than n samples are left out at that n.
    """
    points = []
    max_samples = max(map(len, rewards), default=0)
    n = 1
    while n <= max_samples:
        enough_samples = [i for i, row in enumerate(rewards) if len(row) >= n]
        entry: Section = {"n": n, "kl": best_of_n_kl(n), "prompts": len(enough_samples)}
        for name, values in {"reward": rewards, **judged}.items():
            mean = best_of_n_mean(
                [rewards[i] for i in enough_samples], [values[i] for i in enough_samples], n
            )
            entry[name] = interval_section(mean, len(enough_samples))
        points.append(entry)
        n *= 2
    return points
