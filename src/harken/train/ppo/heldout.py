"""A look at the policy on held-out prompts, and whether a checkpoint is fit to be the best."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from harken.config.ppo import PPOSettings
from harken.records import Prompt, Rollout
from harken.reward.judges import GUARDS, JudgeReward
from harken.reward.source import RewardSource, score_all
from harken.rollout.engine import Engine, Sampling
from harken.run.tracking import say
from harken.train.ppo.metrics import response_metrics

RATES = ("eval/cap_hit", "eval/empty", "eval/repetition")
WORSE = 0.05
"""So much may a rate rise above its value before training, and the checkpoint still be chosen."""


class HeldOutEvaluator:
    """The same held-out prompts, the same draws, every time: only the weights differ."""

    def __init__(
        self,
        engine: Engine,
        rewards: Sequence[RewardSource],
        judges: Sequence[RewardSource],
        prompts: Sequence[Prompt],
        settings: PPOSettings,
        seed: int,
    ) -> None:
        self.engine, self.rewards, self.prompts = engine, rewards, prompts
        self.judges = list(judges)
        self.sampling = Sampling(settings.max_gen_len, settings.temperature, seed)
        self.start: dict[str, float] = {}
        self.judged: dict[str, list[float | None]] = {}
        """By judge: its score of each held-out response before training, None where it could not judge."""

    def measure(self, done: int) -> dict[str, float]:
        """Rewards, judges' means, lengths and rates of the held-out answers after `done` updates.

        {} without held-out prompts. What is measured before the first update is kept to compare with.
        """
        if not self.prompts:
            return {}
        rollouts = self.engine.generate(self.prompts, self.sampling, f"update-{done}", "ppo/held-out")
        scored = score_all(self.rewards, rollouts)
        metrics = {"eval/reward_mean": sum(s.reward for s in scored) / len(scored)} | response_metrics(
            rollouts, "eval"
        )
        for judge in self.judges:
            metrics |= self._judged(judge, rollouts, first=done == 0)
        if done == 0:
            self.start = metrics
        return metrics

    def _judged(self, judge: RewardSource, rollouts: Sequence[Rollout], *, first: bool) -> dict[str, float]:
        """The judge's mean, and its paired change since the start; {} where it could judge no response."""
        name = judge.name
        values = [row.scores[0].value for row in score_all([judge], rollouts)]
        if first:
            self.judged[name] = values
            if all(value is None for value in values):
                say(
                    f"warning: judge {name} scores none of the held-out responses: it watches nothing here. "
                    "Fix: name another judge in training.ppo.judges"
                )
        known = [value for value in values if value is not None]
        if not known:
            return {}
        before = self.judged.get(name, values)
        pairs = zip(values, before, strict=True)
        changes = [now - then for now, then in pairs if now is not None and then is not None]
        kind = "guard" if isinstance(judge, JudgeReward) and name in GUARDS else "judge"
        metrics = {f"eval/{kind}_{name}": statistics.fmean(known)}
        if changes:
            metrics[f"eval/change_{name}"] = statistics.fmean(changes)
            metrics[f"eval/change_error_{name}"] = _standard_error(changes)
        return metrics

    def selection_metric(self, metrics: Mapping[str, float], kl_budget: float | None) -> float | None:
        """The held-out reward; −∞ for a checkpoint that is not fit to be chosen; None where nothing was measured.

        Not fit: cut, empty or repetitive answers rose by more than 5 points over the start, a judge fell below it by
        more than two standard errors of the paired change, or the KL is outside the budget.
        """
        if "eval/reward_mean" not in metrics:
            return None
        outside = kl_budget is not None and metrics["kl/mean"] > kl_budget
        worse = any(metrics[rate] > self.start.get(rate, 1.0) + WORSE for rate in RATES)
        fell = any(
            metrics[change] < -2.0 * metrics[f"eval/change_error_{judge.name}"]
            for judge in self.judges
            if (change := f"eval/change_{judge.name}") in metrics
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
