"""Evaluate the policy on held-out prompts, and decide whether a checkpoint is eligible as the best."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harken.config.ppo import PPOSettings
from harken.config.preference_training import OnlineDPOSettings
from harken.records import Prompt, Score, ScoredRollout
from harken.reward.judges import GUARDS, JudgeReward
from harken.reward.source import RewardSource, score_all
from harken.rollout.engine import Engine, Sampling
from harken.run.tables import JUDGE_COLUMN, write_scored_rollouts
from harken.run.tracking import say
from harken.train.ppo.metrics import response_metrics

DEGENERATION_RATES = ("eval/cap_hit", "eval/empty", "eval/repetition")
KEPT_RESPONSES = 16
"""Number of held-out responses of an evaluation that the run folder keeps: those to the first prompts."""
MAX_RATE_INCREASE = 0.05
"""A checkpoint is ineligible if one of `DEGENERATION_RATES` rose by more than this since before training."""


class HeldOutEvaluator:
    """Sample responses to the held-out prompts with the same random draws each time, and score them."""

    def __init__(
        self,
        engine: Engine,
        rewards: Sequence[RewardSource],
        judges: Sequence[RewardSource],
        prompts: Sequence[Prompt],
        settings: PPOSettings | OnlineDPOSettings,
        seed: int,
        record: Path | None = None,
    ) -> None:
        """`record` is the folder where the first responses of every evaluation are kept; None: keep none."""
        self.record = record
        self.engine, self.rewards, self.prompts = engine, rewards, prompts
        self.judges = list(judges)
        self.sampling = Sampling(settings.max_gen_len, settings.temperature, seed)
        self.baseline: dict[str, float] = {}
        """The metrics before training."""
        self.baseline_scores: dict[str, list[float | None]] = {}
        """By judge: its score of each held-out response before training; None where it gave none."""

    def measure(self, done: int) -> dict[str, float]:
        """Measure reward, judges' means, lengths and rates of the held-out responses after `done` updates.

        Returns {} without held-out prompts. Metrics before the first update (`done` 0) are kept as the baseline.
        """
        if not self.prompts:
            return {}
        rollouts = self.engine.generate(self.prompts, self.sampling, f"update-{done}", "ppo/held-out")
        scored = score_all(self.rewards, rollouts)
        metrics = {"eval/reward_mean": sum(s.reward for s in scored) / len(scored)} | response_metrics(
            rollouts, "eval"
        )
        judged: dict[str, list[float | None]] = {}
        for judge in self.judges:
            judged[judge.name] = [row.scores[0].value for row in score_all([judge], rollouts)]
            metrics |= self._judge_metrics(judge, judged[judge.name], is_baseline=done == 0)
        if done == 0:
            self.baseline = metrics
        if self.record is not None:
            _write_responses(self.record, done, scored[:KEPT_RESPONSES], judged)
        return metrics

    def _judge_metrics(
        self, judge: RewardSource, scores: list[float | None], *, is_baseline: bool
    ) -> dict[str, float]:
        """Compute the judge's mean and its paired change since the baseline; {} if it scored no response."""
        name = judge.name
        if is_baseline:
            self.baseline_scores[name] = scores
            if all(score is None for score in scores):
                say(
                    f"warning: judge {name} scores none of the held-out responses, so it cannot detect a gamed reward. "
                    "Fix: name another judge in training.ppo.judges"
                )
        known_scores = [score for score in scores if score is not None]
        if not known_scores:
            return {}
        baseline = self.baseline_scores.get(name, scores)
        pairs = zip(scores, baseline, strict=True)
        changes = [
            score - baseline_score
            for score, baseline_score in pairs
            if score is not None and baseline_score is not None
        ]
        kind = "guard" if isinstance(judge, JudgeReward) and name in GUARDS else "judge"
        metrics = {f"eval/{kind}_{name}": statistics.fmean(known_scores)}
        if changes:
            metrics[f"eval/change_{name}"] = statistics.fmean(changes)
            metrics[f"eval/change_error_{name}"] = _standard_error(changes)
        return metrics

    def selection_metric(self, metrics: Mapping[str, float], kl_budget: float | None) -> float | None:
        """Return the held-out reward; −∞ for an ineligible checkpoint; None if nothing was measured.

        A checkpoint is ineligible if the rate of truncated, empty or repetitive responses rose by more than 5 points
        since the baseline, if a judge fell by more than two standard errors of its paired change, or if the KL is over
        budget.
        """
        if "eval/reward_mean" not in metrics:
            return None
        over_budget = kl_budget is not None and metrics["kl/mean"] > kl_budget
        degraded = any(
            metrics[rate] > self.baseline.get(rate, 1.0) + MAX_RATE_INCREASE for rate in DEGENERATION_RATES
        )
        judge_fell = any(
            metrics[change] < -2.0 * metrics[f"eval/change_error_{judge.name}"]
            for judge in self.judges
            if (change := f"eval/change_{judge.name}") in metrics
        )
        return -math.inf if over_budget or degraded or judge_fell else metrics["eval/reward_mean"]

    def state(self) -> dict[str, Any]:
        """Return the baseline, as JSON."""
        return {"baseline": self.baseline, "baseline_scores": self.baseline_scores}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore `state`."""
        self.baseline, self.baseline_scores = dict(state["baseline"]), dict(state["baseline_scores"])


def _write_responses(
    folder: Path, done: int, scored: Sequence[ScoredRollout], judged: Mapping[str, Sequence[float | None]]
) -> None:
    """Write these responses as a table of rollouts, with the judges' scores under weight 0.

    The same weights give the same responses, so a resumed run writes the same bytes again.
    """
    rows = [
        replace(
            row,
            scores=(
                *row.scores,
                *(Score(f"{JUDGE_COLUMN}{name}", scores[index], 0.0) for name, scores in judged.items()),
            ),
        )
        for index, row in enumerate(scored)
    ]
    write_scored_rollouts(folder / f"update-{done:06d}.parquet", rows, step=done)


def _standard_error(values: Sequence[float]) -> float:
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
