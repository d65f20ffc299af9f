"""Online DPO: rank the policy's own responses by the reward, train on the best against the worst of each prompt.

Source: Guo et al. 2024, "Direct language model alignment from online AI feedback" (arXiv:2402.04792), with any
reward in place of the AI judge; best against worst of k as in Dong et al. 2024 (arXiv:2405.07863).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harken.config import RunConfig
from harken.config.preference_training import OnlineDPOTraining
from harken.errors import NonFinite
from harken.records import Prompt, Rollout
from harken.reward.source import score_all
from harken.reward.sycophancy import check_prompt_details
from harken.rollout.engine import Engine, Sampling, require_unsteered
from harken.run.folder import RunFolder
from harken.run.tables import write_scored_rollouts
from harken.run.tracking import say
from harken.train.dpo.examples import PreferenceExample, rated_examples
from harken.train.dpo.learner import PreferenceLearner
from harken.train.dpo.metrics import preference_metrics
from harken.train.dpo.models import PolicyModels
from harken.train.dpo.ranking import RankedPairs, best_against_worst, rate_pairs
from harken.train.dpo.sampled import response_logprobs
from harken.train.nonfinite import attach_tensors, check_finite
from harken.train.optim.optimiser import lr_multiplier
from harken.train.ppo.heldout import HeldOutEvaluator
from harken.train.ppo.metrics import response_metrics, reward_metrics
from harken.train.ppo.stopwatch import Stopwatch
from harken.train.sampler import draw_prompts


class OnlineDPOStage:
    """Run one update per step: sample, score, rank, and take one optimiser step on the pairs."""

    label = "online DPO"

    def __init__(
        self,
        config: RunConfig,
        models: PolicyModels,
        engine: Engine,
        prompts: Sequence[Prompt],
        held_out: Sequence[Prompt],
        run: RunFolder,
    ) -> None:
        assert isinstance(config.training, OnlineDPOTraining) and models.rewards is not None
        self.training, self.settings, self.seed = config.training, config.training.online_dpo, config.seed
        self.models, self.engine, self.prompts, self.run = models, engine, prompts, run
        self.max_length = config.data.max_length + self.settings.max_gen_len
        self.rewards = models.rewards.sources
        self.total = self.settings.updates
        self.learner = PreferenceLearner(
            self.training,
            self.settings,
            models.policy,
            models.reference,
            self.label,
            self.settings.temperature,
        )
        judges = models.rewards.judges
        require_unsteered(engine)
        check_prompt_details(self.rewards, [*prompts, *held_out])
        self.heldout = HeldOutEvaluator(
            engine, self.rewards, judges, held_out, self.settings, config.seed, run.held_out
        )

    def step(self, update: int) -> dict[str, float]:
        """Run update `update` (from 0) and return its metrics.

        Raises NonFinite, with everything as before the update, if a reward, a score, the loss or the gradient is not
        finite.
        """
        try:
            return self._update(update)
        except NonFinite:
            self.learner.optimiser.zero_grad()
            raise

    def _update(self, update: int) -> dict[str, float]:
        watch = Stopwatch(self.models.policy.backbone.device)
        rollouts = self._generate(update)
        watch.lap("time/generate")
        scored = score_all(self.rewards, rollouts)
        reward = torch.tensor([row.reward for row in scored])
        check_finite(
            [("reward", reward, None)], "rollouts", dict, [f"of prompt {r.prompt.id}" for r in rollouts]
        )
        watch.lap("time/score")

        ranked = best_against_worst(scored)
        examples = self._examples(ranked)
        metrics = reward_metrics(scored, self.settings.score_clip) | response_metrics(rollouts, "response")
        metrics |= self._kl(rollouts)
        reference = self.learner.scores(self.models.reference, examples)
        watch.lap("time/evaluate")

        lr_scale = lr_multiplier(update, self.total, self.training)
        if examples:
            loss, scores = self.learner.accumulate_gradients(examples, reference)
            with attach_tensors(lambda: self.learner.dump_tensors(examples)):
                metrics["grad_norm"] = self.learner.optimiser.clip_and_step(lr_scale)
            metrics["loss"] = loss
            metrics |= preference_metrics(self.settings, scores, examples)
        watch.lap("time/learn")
        write_scored_rollouts(self.run.rollouts / f"update-{update + 1:06d}.parquet", scored, step=update + 1)
        return metrics | self._pair_metrics(ranked, lr_scale) | watch.laps

    def _generate(self, update: int) -> list[Rollout]:
        settings = self.settings
        sampling = Sampling(
            settings.max_gen_len, settings.temperature, self.seed, settings.samples_per_prompt
        )
        rollouts: list[Rollout] = []
        draws = draw_prompts(update, settings.prompts_per_update, len(self.prompts), self.seed, self.label)
        for repeat, rows in enumerate(draws):
            purpose = f"online_dpo/{update}/{repeat}"
            prompts = [self.prompts[i] for i in rows]
            rollouts += self.engine.generate(prompts, sampling, f"update-{update}", purpose)
        return rollouts

    def _examples(self, ranked: RankedPairs) -> list[PreferenceExample]:
        """Return the pairs; for kto each as a thumb up and a thumb down."""
        if self.settings.loss != "kto":
            return ranked.examples
        return rated_examples(rate_pairs(ranked.examples), self.seed, self.max_length)

    def _kl(self, rollouts: Sequence[Rollout]) -> dict[str, float]:
        """Estimate the KL of all rollouts from the reference, by the sampler's own log-probabilities (k1)."""
        sampled = torch.tensor([math.fsum(r.sampler_logprobs) for r in rollouts])
        micro_batcher, temperature = self.learner.micro_batcher, self.settings.temperature
        reference = micro_batcher.retry_on_oom(
            lambda: response_logprobs(self.models.reference, rollouts, temperature, micro_batcher)
        )
        kl = sampled - reference
        tokens = sum(len(r.response_tokens) for r in rollouts)
        error = float(kl.std()) / len(kl) ** 0.5
        return {
            "kl/mean": float(kl.mean()),
            "kl/per_token": float(kl.sum()) / tokens,
            "kl/std_error": error,
        }

    def _pair_metrics(self, ranked: RankedPairs, lr_scale: float) -> dict[str, float]:
        return {
            "pairs/count": float(len(ranked.examples)),
            "pairs/ties": float(ranked.ties),
            "pairs/reward_gap": ranked.gap,
            "lr": self.training.lr * lr_scale,
            "memory/micro_batch_tokens": float(self.learner.micro_batcher.tokens),
        }

    # -- the interface of the loop ----------------------------------------------------------------------

    def on_train_begin(self) -> None:
        """Evaluate the untrained policy on held-out prompts, as the baseline for checkpoints."""
        if baseline := self.heldout.measure(0):
            say(f"online DPO: before the first update, held-out reward {baseline['eval/reward_mean']:+.2f}")

    def evaluate(self, done: int) -> dict[str, float]:
        """Evaluate on held-out prompts, with the same random draws every time."""
        metrics = self.heldout.measure(done)
        if metrics and (start := self.heldout.baseline.get("eval/tokens_mean")):
            metrics["eval/tokens_change"] = metrics["eval/tokens_mean"] / start
        return metrics

    def selection_metric(self, metrics: Mapping[str, float]) -> float | None:
        """Return the held-out reward; −∞ if these weights are not eligible as the best checkpoint."""
        return self.heldout.selection_metric(metrics, self.settings.kl_budget)

    def stop_reason(self) -> str | None:
        """Return None: training never ends early."""
        return None

    def summary(self, metrics: Mapping[str, float]) -> str:
        """Summarise the update in one line."""
        held_out = f"  held-out {metrics['eval/reward_mean']:+.2f}" if "eval/reward_mean" in metrics else ""
        accuracy = (
            f"  accuracy {metrics['rewards/accuracies']:.2f}" if "rewards/accuracies" in metrics else ""
        )
        return (
            f"reward {metrics['reward/mean']:+.2f}{held_out}  KL {metrics['kl/mean']:.2f} nats/seq"
            f"  {metrics['pairs/count']:.0f} pairs, {metrics['pairs/ties']:.0f} ties{accuracy}"
            f"  {metrics['response/tokens_mean']:.0f} tokens"
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return the trained weights and optimiser state."""
        return self.learner.optimiser.tensors()

    def state(self) -> dict[str, Any]:
        """Return the token budget and the held-out baseline."""
        return {"micro_batch_tokens": self.learner.micro_batcher.tokens, "heldout": self.heldout.state()}

    def load(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Restore `tensors` and `state`."""
        self.learner.optimiser.load(tensors)
        self.learner.micro_batcher.tokens = int(state["micro_batch_tokens"])
        self.heldout.load(state["heldout"])

    def save(self, folder: Path) -> None:
        """Write the policy: an adapter on its base, unrounded, or the whole model.

        Raises FrozenWeightsChanged, after everything is written, if frozen weights changed.
        """
        self.models.save_policy(folder)
        self.models.check_frozen()
