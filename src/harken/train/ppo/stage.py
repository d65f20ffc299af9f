"""Token-level PPO. `PPOStage.step` reads in the paper's order.

Sources: Schulman et al. 2017 (arXiv:1707.06347); Stiennon et al. 2020 (arXiv:2009.01325);
Huang et al. 2024, "The N+ implementation details" (arXiv:2403.17031).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from harken.batches import PolicyOutputs, TokenBatch, collate
from harken.config import RunConfig
from harken.config.ppo import PPOTraining
from harken.errors import NonFinite
from harken.maths.logprobs import full_kl
from harken.models.end_tokens import generation_settings
from harken.models.load_errors import saving
from harken.models.roles import Critic, Policy, scatter_to_mask
from harken.records import Prompt, Rollout
from harken.reward.source import RewardSource, score_all
from harken.rollout.engine import Engine, Sampling
from harken.run.credit_table import write_credit
from harken.run.folder import RunFolder
from harken.run.tables import write_scored_rollouts
from harken.run.tracking import say
from harken.train.nonfinite import Checked, attach_tensors, check_finite
from harken.train.optim.optimiser import lr_multiplier
from harken.train.ppo.heldout import HeldOutEvaluator
from harken.train.ppo.kl_control import KLControl
from harken.train.ppo.learner import Learner, Ptx
from harken.train.ppo.metrics import rollout_metrics
from harken.train.ppo.reference import Reference
from harken.train.ppo.targets import PPOTargets, compute_targets, token_columns
from harken.train.sampler import infinite_indices


class PPOStage:
    """One step = one update: a rollout batch, `epochs` × `minibatches` optimiser steps on it."""

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
        verify: Callable[[], object] = lambda: None,
        critic: Critic | None = None,
        ptx: Ptx | None = None,
        judges: Sequence[RewardSource] = (),
    ) -> None:
        assert isinstance(config.training, PPOTraining)
        self.training, self.settings, self.seed = config.training, config.training.ppo, config.seed
        self.policy, self.critic, self.engine, self.rewards = policy, critic, engine, rewards
        self.prompts, self.run, self.base, self.verify = prompts, run, base, verify
        self.total = self.settings.updates
        self.reference = Reference(reference, policy, self.settings.reference_update_every)
        self.learner = Learner(self.training, policy, reference, critic, ptx, config.seed)
        self.control = KLControl(self.settings, self.learner)
        self.heldout = HeldOutEvaluator(engine, rewards, judges, held_out, self.settings, config.seed)
        self.warming = self.settings.critic_warmup_updates > 0

    def step(self, number: int) -> dict[str, float]:
        """Generate, score, evaluate, assign credit, learn, adjust the KL coefficient.

        Raises NonFinite, with everything as it was, when a reward, log-probability, value, advantage, loss or
        gradient is not finite.
        """
        warming = self.warming
        try:
            return self._update(number)
        except NonFinite:
            self.learner.give_up()
            self.control.take_back()
            self.warming = warming
            raise

    def _update(self, number: int) -> dict[str, float]:
        clock = _Clock(self.policy.backbone.device)
        rollouts = self._generate(number)
        clock.lap("time/generate")
        batch = self._collate(rollouts)
        with attach_tensors(lambda: vars(batch)):
            scored = score_all(self.rewards, rollouts)
        clock.lap("time/score")

        retry_on_oom = self.learner.budget.retry_on_oom
        reference = retry_on_oom(lambda: self._logprobs(self.reference.policy, batch))
        exact = retry_on_oom(lambda: self._full_kl(batch)) if self.settings.kl_estimator == "full" else None
        # Last, because it leaves the first micro-batch's forward to be learnt from.
        old = retry_on_oom(lambda: self._evaluate(number, batch))
        clock.lap("time/evaluate")

        coefficient = self.control.begin(number)
        rewards = old.values.new_tensor([s.reward for s in scored])
        targets = compute_targets(
            old,
            reference,
            batch.response_mask,
            batch.tokens.new_tensor([r.stop == "length" for r in rollouts], dtype=torch.bool),
            rewards,
            coefficient,
            self.settings,
            exact,
        )
        self._require_finite(batch, rewards, reference, old, targets, rollouts)
        metrics = rollout_metrics(scored, batch, old, targets, score_clip=self.settings.score_clip)
        self.warming = self.warming and self._still_warming(number, metrics["value/explained_var"])
        lr_scale = lr_multiplier(number, self.total, self.training)
        measures = self.learner.learn(
            number, batch, targets, reference, lr_scale, coefficient, critic_alone=self.warming
        )
        clock.lap("time/learn")

        new = None
        if self.settings.update_kl_limit is not None or (number + 1) % self.settings.trace_every == 0:
            new = retry_on_oom(lambda: self._logprobs(self.policy, batch))
        metrics |= measures.metrics()
        metrics |= self.control.end(metrics["kl/mean"], len(rollouts), old.logprobs, new, batch.response_mask)
        metrics |= {"lr": self.training.lr * lr_scale, "critic/warming": float(self.warming), **clock.laps}
        metrics["memory/micro_batch_tokens"] = float(self.learner.budget.tokens)
        self.reference.after(number + 1)
        name = f"update-{number + 1:06d}.parquet"
        write_scored_rollouts(self.run.rollouts / name, scored, step=number + 1)
        columns = token_columns(old, reference, targets, new, critic=not self.settings.group_baseline)
        assert old.final_values is not None
        final_values = old.final_values.tolist() if columns.values is not None else None
        write_credit(
            self.run.credit / name, scored, batch.response_mask, columns, kl_coefficient=coefficient,
            final_values=final_values, step=number + 1,
        )  # fmt: skip
        return metrics

    def stop_reason(self) -> str | None:
        """Why the run should end now, before all its updates; None to go on."""
        return self.control.stop_reason

    def _require_finite(
        self, batch: TokenBatch, rewards: Tensor, reference: Tensor, old: PolicyOutputs, targets: PPOTargets,
        rollouts: Sequence[Rollout],
    ) -> None:  # fmt: skip
        """Before anything is learnt: NonFinite for the first that is not finite, in the order they are made."""
        credit = targets.credit
        tables = {
            "reference_logprob": (reference, batch.response_mask),
            "logprob": (old.logprobs, batch.response_mask),
            "value": (old.values, batch.response_mask),
            "kl": (targets.kl_penalty, batch.response_mask),
            "advantage": (credit.advantages, targets.policy_mask),
            "return": (credit.returns, targets.value_mask),
        }
        checked: list[Checked] = [("reward", rewards, None)]
        checked += [(name, table, counts) for name, (table, counts) in tables.items()]

        def shown() -> dict[str, Tensor]:
            return {**vars(batch), **{name: table for name, table, _ in checked}}

        check_finite(checked, "rollouts", shown, [f"of prompt {r.prompt.id}" for r in rollouts])

    # -- the parts of a step ----------------------------------------------------------------------

    def _generate(self, number: int) -> list[Rollout]:
        count = self.settings.prompts_per_update
        rows = infinite_indices(number * count, count, len(self.prompts), self.seed, "PPO prompts")
        sampling = Sampling(
            max_tokens=self.settings.max_gen_len,
            temperature=self.settings.temperature,
            seed=self.seed,
            samples=self.settings.samples_per_prompt,
        )
        # An answer is a function of (purpose, prompt, sample): a prompt that comes up again within an update
        # needs a purpose of its own, or it would be answered with the same words.
        rollouts: list[Rollout] = []
        for again, turn in enumerate(_turns(rows)):
            prompts = [self.prompts[i] for i in turn]
            purpose = f"ppo/{number}/{again}" if again else f"ppo/{number}"
            rollouts += self.engine.generate(prompts, sampling, f"update-{number}", purpose)
        return rollouts

    def _collate(self, rollouts: Sequence[Rollout]) -> TokenBatch:
        pad = self.policy.backbone.pad_token
        tokens = [[*r.prompt_tokens, *r.response_tokens] for r in rollouts]
        response_mask = [[False] * len(r.prompt_tokens) + [True] * len(r.response_tokens) for r in rollouts]
        return collate(tokens, response_mask, pad).to(self.policy.backbone.device)

    @torch.no_grad()
    def _evaluate(self, number: int, batch: TokenBatch) -> PolicyOutputs:
        """The training forward of policy and critic over all rows.

        One micro-batch of the first optimiser step keeps its graph: there the policy is still the old one, and what
        is computed here is not computed again to learn from.
        """
        logprobs, entropy, values = torch.zeros((3, *batch.tokens.shape), device=batch.tokens.device)
        final_values = torch.zeros(len(batch.tokens), device=batch.tokens.device)
        groups = self.learner.first_minibatch_last(number, batch)
        for rows in groups:
            piece = batch.rows(rows)
            if rows is groups[-1] and not self.warming:
                now = self.learner.forward_keep_graph(piece, rows)
            else:
                now = self.policy.evaluate(piece, self.settings.temperature)
            width = piece.tokens.shape[1]
            logprobs[rows, :width], entropy[rows, :width] = now.logprobs, now.entropy
            assert now.final_values is not None
            of_critic = self.critic.values(piece) if self.critic else (now.values, now.final_values)
            values[rows, :width], final_values[rows] = of_critic
        return PolicyOutputs(logprobs, entropy, values, final_values)

    @torch.no_grad()
    def _logprobs(self, policy: Policy, batch: TokenBatch) -> Tensor:
        """[batch, time], nats: what a policy says of every action token now."""
        logprobs = torch.zeros(batch.tokens.shape, device=batch.tokens.device)
        for rows in self._micro_batches(batch):
            piece = batch.rows(rows)
            now = policy.evaluate(piece, self.settings.temperature)
            logprobs[rows, : piece.tokens.shape[1]] = now.logprobs
        return logprobs

    @torch.no_grad()
    def _full_kl(self, batch: TokenBatch) -> Tensor:
        """[batch, time], nats: KL(policy ‖ reference) of the whole distribution each action token came from."""
        exact = torch.zeros(batch.tokens.shape, device=batch.tokens.device)
        reference = self.reference.policy
        for rows in self._micro_batches(batch):
            piece = batch.rows(rows)
            kl = full_kl(
                self.policy.states(piece),
                self.policy.backbone.head,
                reference.states(piece),
                reference.backbone.head,
                self.settings.temperature,
            )
            exact[rows, : piece.tokens.shape[1]] = scatter_to_mask(kl, piece.response_mask)
        return exact

    def _micro_batches(self, batch: TokenBatch) -> list[list[int]]:
        return self.learner.budget.split([[row] for row in batch.sequences()])

    def _still_warming(self, number: int, explained: float) -> bool:
        """Whether the critic goes on alone: it has updates left and does not foresee returns well enough."""
        return number < self.settings.critic_warmup_updates and explained < self.settings.critic_warmup_until

    # -- what the loop asks for -------------------------------------------------------------------

    def before(self) -> None:
        """The held-out answers of the untrained policy: what a best checkpoint is compared with."""
        if start := self.heldout.measure(0):
            say(f"PPO: before the first update, held-out reward {start['eval/reward_mean']:+.2f}")

    def evaluate(self, done: int) -> dict[str, float]:
        """Sampled answers to the held-out prompts, the same draws every time, in numbers."""
        return self.heldout.measure(done)

    def quality(self, metrics: Mapping[str, float]) -> float | None:
        """Of a checkpoint, for choosing the best: its held-out reward, if it is fit to be chosen (see `Probe`)."""
        return self.heldout.quality(metrics, self.settings.kl_budget)

    def summary(self, metrics: Mapping[str, float]) -> str:
        """Reward, KL per sequence, length, cut answers, seconds."""
        held_out = f"  held-out {metrics['eval/reward_mean']:+.2f}" if "eval/reward_mean" in metrics else ""
        alone = "  (critic warming up)" if self.warming else ""
        undone = "  (update taken back)" if metrics.get("update/rolled_back") else ""
        return (
            f"reward {metrics['reward/mean']:+.2f}{held_out}  KL {metrics['kl/mean']:.2f} nats/seq"
            f"  {metrics['response/tokens_mean']:.0f} tokens  cut {metrics['response/cap_hit']:.0%}"
            f"  {metrics['seconds']:.0f} s{alone}{undone}"
        )

    def tensors(self) -> dict[str, Tensor]:
        """All that trains with its optimisers' moments, a moved reference, and what the KL budget may go back to."""
        return self.learner.tensors() | self.reference.tensors() | self.control.tensors()

    def state(self) -> dict[str, Any]:
        """KL control, warm-up, the probe's start, what fits into memory: all else is a function of the step."""
        return {
            "micro_batch_tokens": self.learner.budget.tokens,
            "control": self.control.state(),
            "reference": self.reference.state(),
            "probe": self.heldout.state(),
            "warming": self.warming,
        }

    def load(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Put both back."""
        self.learner.load(tensors)
        self.learner.budget.tokens = int(state["micro_batch_tokens"])
        self.reference.load(tensors, state["reference"])
        self.control.load(tensors, state["control"])
        self.heldout.load(state["probe"])
        self.warming = bool(state["warming"])

    def save(self, folder: Path) -> None:
        """The policy with its value head: an adapter on its base, exact, or the whole model.

        Raises FrozenWeightsMoved, after everything is written, when `verify` does.
        """
        if self.policy.adapter is not None:
            self.policy.backbone.save_adapter(self.policy.adapter, folder, self.base)
            backbone = self.policy.backbone
            with saving(folder):
                generation_settings(backbone.tokenizer, backbone.ends).save_pretrained(folder)
        else:
            self.policy.backbone.save_whole(folder)
        head = self.critic.head if self.critic is not None else self.policy.value_head
        if head is not None:
            save_file(dict(head.state_dict()), folder / "value_head.safetensors")
        self.verify()


def _turns(rows: Sequence[int]) -> list[list[int]]:
    """Rows split so that none stands twice in a turn; one turn when all differ."""
    turns: list[list[int]] = []
    times: Counter[int] = Counter()
    for row in rows:
        if times[row] == len(turns):
            turns.append([])
        turns[times[row]].append(row)
        times[row] += 1
    return turns


class _Clock:
    """Seconds between laps, work that a GPU has yet to do included."""

    def __init__(self, device: torch.device) -> None:
        self.laps: dict[str, float] = {}
        self._device = device
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        self.laps[name] = now - self._last
        self._last = now
