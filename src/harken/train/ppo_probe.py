"""A look at the policy on held-out prompts, and whether a checkpoint is fit to be the best."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from harken.config_ppo import PPOSettings
from harken.records import Prompt
from harken.reward.judges import find_judges
from harken.reward.source import RewardSource, score_all
from harken.rollout.engine import Engine, Sampling
from harken.train.ppo_metrics import answer_metrics

RATES = ("eval/cap_hit", "eval/empty", "eval/repetition")
WORSE = 0.05
"""So much may a rate rise above its value before training, and the checkpoint still be chosen."""


class Probe:
    """The same held-out prompts, the same draws, every time: only the weights differ."""

    def __init__(
        self,
        engine: Engine,
        rewards: Sequence[RewardSource],
        prompts: Sequence[Prompt],
        settings: PPOSettings,
        seed: int,
    ) -> None:
        self.engine, self.rewards, self.prompts = engine, rewards, prompts
        self.judges = find_judges(settings.judges)
        self.sampling = Sampling(settings.max_gen_len, settings.temperature, seed)
        self.start: dict[str, float] = {}
        self.judged: dict[str, list[float]] = {}

    def measure(self, done: int) -> dict[str, float]:
        """Rewards, judges' means, lengths and rates of the held-out answers after `done` updates.

        {} without held-out prompts. What is measured before the first update is kept to compare with.
        """
        if not self.prompts:
            return {}
        rollouts = self.engine.generate(self.prompts, self.sampling, f"update-{done}", "ppo/held-out")
        scored = score_all(self.rewards, rollouts)
        metrics = {"eval/reward_mean": sum(s.reward for s in scored) / len(scored)} | answer_metrics(
            rollouts, "eval"
        )
        for name, judge in self.judges.items():
            values = [judge(r.prompt, r.text, r.stop) for r in rollouts]
            if done == 0:
                self.judged[name] = values
            metrics[f"eval/judge_{name}"] = statistics.fmean(values)
            changes = [now - then for now, then in zip(values, self.judged.get(name, values), strict=True)]
            metrics[f"eval/change_{name}"] = statistics.fmean(changes)
            metrics[f"eval/change_error_{name}"] = _standard_error(changes)
        if done == 0:
            self.start = metrics
        return metrics

    def quality(self, metrics: Mapping[str, float], kl_budget: float | None) -> float | None:
        """The held-out reward; −∞ for a checkpoint that is not fit to be chosen; None where nothing was measured.

        Not fit: cut, empty or repetitive answers rose by more than 5 points over the start, a judge fell below it by
        more than two standard errors of the paired change, or the KL is outside the budget.
        """
        if "eval/reward_mean" not in metrics:
            return None
        outside = kl_budget is not None and metrics["kl/mean"] > kl_budget
        worse = any(metrics[rate] > self.start.get(rate, 1.0) + WORSE for rate in RATES)
        fell = any(
            metrics[f"eval/change_{name}"] < -2.0 * metrics[f"eval/change_error_{name}"]
            for name in self.judges
        )
        return -math.inf if outside or worse or fell else metrics["eval/reward_mean"]

    def state(self) -> dict[str, Any]:
        """What was measured before the first update."""
        return {"start": self.start, "judged": self.judged}

    def load(self, state: Mapping[str, Any]) -> None:
        """Put it back."""
        self.start, self.judged = dict(state["start"]), dict(state["judged"])


def _standard_error(values: Sequence[float]) -> float:
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
