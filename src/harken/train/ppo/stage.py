"""Train by token-level PPO (Schulman et al. 2017; Huang et al. 2024). `PPOStage._update` follows their order of steps.

Sources: Schulman et al. 2017 (arXiv:1707.06347); Stiennon et al. 2020 (arXiv:2009.01325);
Huang et al. 2024, "The N+ implementation details" (arXiv:2403.17031).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from harken.batches import PolicyOutputs, TokenBatch, collate
from harken.config import RunConfig
from harken.config.ppo import PPOTraining
from harken.errors import NonFinite
from harken.models.end_tokens import generation_settings
from harken.models.load_errors import save_errors
from harken.models.roles import Critic, Policy
from harken.records import Prompt, Rollout, ScoredRollout
from harken.reward.source import RewardSource, score_all
from harken.reward.sycophancy import check_prompt_details
from harken.rollout.engine import Engine, Sampling, require_unsteered
from harken.run.folder import RunFolder
from harken.run.tracking import say
from harken.train.nonfinite import Checked, attach_tensors, check_finite
from harken.train.optim.optimiser import lr_multiplier
from harken.train.ppo.groups import group_metrics
from harken.train.ppo.heldout import HeldOutEvaluator
from harken.train.ppo.kl_control import KLControl
from harken.train.ppo.learner import Learner, Ptx
from harken.train.ppo.metrics import rollout_metrics
from harken.train.ppo.minibatch import Minibatch, minibatch_indices
from harken.train.ppo.recorder import Recorder
from harken.train.ppo.reference import Reference
from harken.train.ppo.snapshot import Snapshot
from harken.train.ppo.stopwatch import Stopwatch
from harken.train.ppo.targets import PPOTargets, compute_targets
from harken.train.sampler import draw_prompts


class PPOStage:
    """Run one update per step: a rollout batch, then `epochs` × `minibatches` optimiser steps on it."""

    label = "PPO"

    def __init__(
        self,
        config: RunConfig,
        policy: Policy,
        reference: Policy,
        engine: Engine,
        rewards: Sequence[RewardSource],
        prompts: Sequence[Prompt],
        held_out: Sequence[Prompt],
        run: RunFolder,
        base: Path,
        check_frozen: Callable[[], object] = lambda: None,
        critic: Critic | None = None,
        ptx: Ptx | None = None,
        judges: Sequence[RewardSource] = (),
    ) -> None:
        assert isinstance(config.training, PPOTraining)
        self.training, self.settings, self.seed = config.training, config.training.ppo, config.seed
        self.policy, self.critic, self.engine, self.reward_sources = policy, critic, engine, rewards
        self.prompts, self.base, self.check_frozen = prompts, base, check_frozen
        self.total = self.settings.updates
        self.reference = Reference(reference, policy, self.settings.reference_update_every)
        self.learner = Learner(self.training, policy, reference, critic, ptx, config.seed)
        self.evaluator = self.learner.evaluator
        self.kl = KLControl(self.settings)
        self.snapshot = Snapshot(self.learner, self.settings)
        self.recorder = Recorder(run, has_critic=not self.settings.group_baseline)
        require_unsteered(engine)
        check_prompt_details(rewards, [*prompts, *held_out])
        self.heldout = HeldOutEvaluator(
            engine, rewards, judges, held_out, self.settings, config.seed, run.held_out
        )
        self.warming_up = self.settings.critic_warmup_updates > 0

    def step(self, update: int, rollouts: Sequence[ScoredRollout] | None = None) -> dict[str, float]:
        """Run update number `update` (from 0), on `rollouts` if they are given, and return its metrics.

        Raises NonFinite, with the update rolled back, if a reward, log-probability, value, advantage, loss or gradient
        is not finite.
        """
        with self._rollback_on_nonfinite():
            return self._update(update, rollouts)

    def _update(self, update: int, rollouts: Sequence[ScoredRollout] | None) -> dict[str, float]:
        watch = Stopwatch(self.policy.backbone.device)

        # Sample a batch of responses and score them.
        scored = self._sample_and_score(update, watch) if rollouts is None else rollouts
        batch = self._collate([s.rollout for s in scored])
        reward, truncated = self._reward_and_truncated(scored)

        # Evaluate their tokens under the reference, the policy and the critic.
        ref_logprobs = self.evaluator.logprobs(self.reference.model, batch)
        full_kl = self._full_kl(batch)
        old = self._old_outputs(update, batch)
        watch.lap("time/evaluate")

        # Penalise each token by its KL; compute advantages and returns.
        kl_coef = self.kl.coefficient.for_update(update)
        targets = compute_targets(
            old, ref_logprobs, batch.response_mask, truncated, reward, kl_coef, self.settings, full_kl
        )
        self._check_finite(scored, batch, reward, ref_logprobs, old, targets)
        metrics = rollout_metrics(scored, batch, old, targets, score_clip=self.settings.score_clip)
        metrics |= group_metrics(reward, truncated, self.settings)

        # Train on the batch for several epochs; the critic alone while it warms up.
        self.warming_up = self.warming_up and self._still_warming_up(update, metrics["value/explained_var"])
        self.snapshot.take()
        lr_scale = lr_multiplier(update, self.total, self.training)
        rollout_batch = Minibatch.whole(batch, targets, ref_logprobs)
        stats = self.learner.learn(update, rollout_batch, lr_scale, kl_coef, train_policy=not self.warming_up)
        watch.lap("time/learn")

        # Control the KL, record the update (files count updates from 1), update the reference.
        metrics |= stats.metrics() | {"kl/coef": kl_coef}
        new_logprobs = self._new_logprobs(update, batch)
        metrics |= self._rollback_or_adapt_kl(metrics["kl/mean"], batch, old, new_logprobs)
        self.recorder.write(update + 1, scored, batch, old, ref_logprobs, new_logprobs, targets, kl_coef)
        self.reference.update_if_due(update + 1)
        return metrics | self._run_metrics(lr_scale) | watch.laps

    def stop_reason(self) -> str | None:
        """Return why the run should end before all its updates; None to continue."""
        return self.kl.stop_reason

    # -- parts of an update ----------------------------------------------------------------------------

    def _sample_and_score(self, update: int, watch: Stopwatch) -> list[ScoredRollout]:
        rollouts = self._generate(update)
        watch.lap("time/generate")
        with attach_tensors(lambda: vars(self._collate(rollouts))):
            scored = score_all(self.reward_sources, rollouts)
        watch.lap("time/score")
        return scored

    def _generate(self, update: int) -> list[Rollout]:
        draws = draw_prompts(update, self.settings.prompts_per_update, len(self.prompts), self.seed, "PPO")
        return self.generate(update, [[self.prompts[i] for i in indices] for indices in draws])

    def generate(self, update: int, draws: Sequence[Sequence[Prompt]]) -> list[Rollout]:
        """Sample responses for update number `update`. A prompt may occur once in each of the lists `draws`."""
        sampling = Sampling(
            max_tokens=self.settings.max_gen_len,
            temperature=self.settings.temperature,
            seed=self.seed,
            samples=self.settings.samples_per_prompt,
        )
        # A response is a function of (purpose, prompt, sample): a prompt drawn twice in an update needs two purposes,
        # or it would get the same response twice.
        rollouts: list[Rollout] = []
        for repeat, prompts in enumerate(draws):
            purpose = f"ppo/{update}/{repeat}" if repeat else f"ppo/{update}"
            rollouts += self.engine.generate(prompts, sampling, f"update-{update}", purpose)
        return rollouts

    def _collate(self, rollouts: Sequence[Rollout]) -> TokenBatch:
        pad = self.policy.backbone.pad_token
        tokens = [[*r.prompt_tokens, *r.response_tokens] for r in rollouts]
        masks = [[False] * len(r.prompt_tokens) + [True] * len(r.response_tokens) for r in rollouts]
        return collate(tokens, masks, pad).to(self.policy.backbone.device)

    def _full_kl(self, batch: TokenBatch) -> Tensor | None:
        if self.settings.kl_estimator != "full":
            return None
        return self.evaluator.full_kl(self.reference.model, batch)

    def _old_outputs(self, update: int, batch: TokenBatch) -> PolicyOutputs:
        """Compute old log-probabilities, entropies and values; the first minibatch trains on the same forward."""
        rows = len(batch.tokens)
        first_minibatch = minibatch_indices(update, 0, 0, rows, self.settings, self.seed)
        return self.evaluator.old_logprobs_and_values(batch, first_minibatch, keep_graph=not self.warming_up)

    def _reward_and_truncated(self, scored: Sequence[ScoredRollout]) -> tuple[Tensor, Tensor]:
        """Return each response's reward and whether it was truncated, as tensors [batch]."""
        device = self.policy.backbone.device
        reward = torch.tensor([s.reward for s in scored], dtype=torch.float32, device=device)
        truncated = [s.rollout.stop == "length" for s in scored]
        return reward, torch.tensor(truncated, dtype=torch.bool, device=device)

    def _check_finite(
        self, scored: Sequence[ScoredRollout], batch: TokenBatch, reward: Tensor, ref_logprobs: Tensor,
        old: PolicyOutputs, targets: PPOTargets,
    ) -> None:  # fmt: skip
        """Raise NonFinite for the first quantity that is not finite, before any optimiser step."""
        per_token = {
            "reference_logprob": (ref_logprobs, batch.response_mask),
            "logprob": (old.logprobs, batch.response_mask),
            "value": (old.values, batch.response_mask),
            "kl": (targets.kl_estimate, batch.response_mask),
            "advantage": (targets.advantages, targets.policy_mask),
            "return": (targets.returns, targets.value_mask),
        }
        checked: list[Checked] = [("reward", reward, None)]
        checked += [(name, values, mask) for name, (values, mask) in per_token.items()]

        def tensors() -> dict[str, Tensor]:
            return {**vars(batch), **{name: values for name, values, _ in checked}}

        check_finite(checked, "rollouts", tensors, [f"of prompt {s.rollout.prompt.id}" for s in scored])

    def _still_warming_up(self, update: int, explained_var: float) -> bool:
        """Return whether `update` is critic-only: warm-up is not over, explained variance is below the threshold."""
        return (
            update < self.settings.critic_warmup_updates and explained_var < self.settings.critic_warmup_until
        )

    def _new_logprobs(self, update: int, batch: TokenBatch) -> Tensor | None:
        """Compute log-probabilities of the same tokens after the update; None if nothing needs them."""
        traced = (update + 1) % self.settings.trace_every == 0
        if self.settings.update_kl_limit is None and not traced:
            return None
        return self.evaluator.logprobs(self.policy, batch)

    def _rollback_or_adapt_kl(
        self, kl_mean: float, batch: TokenBatch, old: PolicyOutputs, new_logprobs: Tensor | None
    ) -> dict[str, float]:
        """Roll back an update that exceeds its limit, check the run's budget, adapt the coefficient."""
        metrics = {}
        if new_logprobs is not None:
            metrics = self.kl.rollback.check(
                old.logprobs, new_logprobs, batch.response_mask, self.snapshot.restore
            )
        self.kl.budget.check(kl_mean, self.snapshot.tensors, self.learner.load)
        self.kl.coefficient.adapt(kl_mean, len(batch.tokens))
        return metrics

    def _run_metrics(self, lr_scale: float) -> dict[str, float]:
        return {
            "lr": self.training.lr * lr_scale,
            "critic/warming_up": float(self.warming_up),
            "memory/micro_batch_tokens": float(self.learner.micro_batcher.tokens),
        }

    @contextmanager
    def _rollback_on_nonfinite(self) -> Iterator[None]:
        """Undo everything that an update changed if it raises NonFinite."""
        kl_coef, warming_up = self.kl.coefficient.value, self.warming_up
        try:
            yield
        except NonFinite:
            self.learner.discard_gradients()
            self.snapshot.restore()
            self.kl.coefficient.value, self.warming_up = kl_coef, warming_up
            raise
        finally:
            self.snapshot.drop()

    # -- the interface of the loop ----------------------------------------------------------------------

    def on_train_begin(self) -> None:
        """Evaluate the untrained policy on held-out prompts, as the baseline for checkpoints."""
        if baseline := self.heldout.measure(0):
            say(f"PPO: before the first update, held-out reward {baseline['eval/reward_mean']:+.2f}")

    def evaluate(self, done: int) -> dict[str, float]:
        """Evaluate on held-out prompts, with the same random draws every time."""
        return self.heldout.measure(done)

    def selection_metric(self, metrics: Mapping[str, float]) -> float | None:
        """Return the held-out reward; −∞ if these weights are not eligible as the best checkpoint."""
        return self.heldout.selection_metric(metrics, self.settings.kl_budget)

    def summary(self, metrics: Mapping[str, float]) -> str:
        """Summarise the update in one line."""
        held_out = f"  held-out {metrics['eval/reward_mean']:+.2f}" if "eval/reward_mean" in metrics else ""
        warm_up = "  (critic warming up)" if self.warming_up else ""
        rollback = "  (update rolled back)" if metrics.get("update/rolled_back") else ""
        return (
            f"reward {metrics['reward/mean']:+.2f}{held_out}  KL {metrics['kl/mean']:.2f} nats/seq"
            f"  {metrics['response/tokens_mean']:.0f} tokens  truncated {metrics['response/cap_hit']:.0%}"
            f"  {metrics['seconds']:.0f} s{warm_up}{rollback}"
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return weights and optimiser state, an updated reference, and the KL budget's weights."""
        return self.learner.tensors() | self.reference.tensors() | self.kl.budget.tensors()

    def state(self) -> dict[str, Any]:
        """Return all other state that a resumed run needs, as JSON."""
        return {
            "micro_batch_tokens": self.learner.micro_batcher.tokens,
            "control": self.kl.state(),
            "reference": self.reference.state(),
            "heldout": self.heldout.state(),
            "warming_up": self.warming_up,
        }

    def load(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Restore `tensors` and `state`."""
        self.learner.load(tensors)
        self.learner.micro_batcher.tokens = int(state["micro_batch_tokens"])
        self.reference.load(tensors, state["reference"])
        self.kl.load(tensors, state["control"])
        self.heldout.load(state["heldout"])
        self.warming_up = bool(state["warming_up"])

    def save(self, folder: Path) -> None:
        """Write the policy (as an adapter on its base, unrounded, or as a whole model) and the value head.

        Raises FrozenWeightsChanged, after everything is written, if `check_frozen` does.
        """
        if self.policy.adapter is not None:
            self.policy.backbone.save_adapter(self.policy.adapter, folder, self.base)
            backbone = self.policy.backbone
            with save_errors(folder):
                generation_settings(backbone.tokenizer, backbone.end_tokens).save_pretrained(folder)
        else:
            self.policy.backbone.save_model(folder)
        head = self.critic.head if self.critic is not None else self.policy.value_head
        if head is not None:
            save_file(dict(head.state_dict()), folder / "value_head.safetensors")
        self.check_frozen()
