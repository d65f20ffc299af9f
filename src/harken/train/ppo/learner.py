"""Run the optimiser steps of one PPO update: epochs, minibatches, micro-batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from harken.batches import PolicyOutputs, TokenBatch, collate
from harken.config.ppo import PPOTraining, PtxSettings
from harken.maths.kl import ESTIMATORS
from harken.maths.logprobs import full_kl
from harken.models.roles import Critic, Policy, scatter_to_mask
from harken.records import TokenDemonstration
from harken.train.nonfinite import Checked, attach_tensors, check_finite_loss
from harken.train.oom_retry import MicroBatcher
from harken.train.optim.optimiser import Optimiser
from harken.train.ppo.evaluator import Evaluator
from harken.train.ppo.kl_control import KLEarlyStop
from harken.train.ppo.loss import UpdateStats, policy_divisor, policy_loss, value_loss
from harken.train.ppo.minibatch import Minibatch, minibatch_indices
from harken.train.sampler import infinite_indices


@dataclass(frozen=True)
class Ptx:
    """Demonstrations whose log-likelihood is added to every optimiser step's loss (PPO-ptx)."""

    rows: Sequence[TokenDemonstration]
    settings: PtxSettings


class Learner:
    """Train policy and critic on the PPO targets of a rollout batch."""

    def __init__(
        self,
        training: PPOTraining,
        policy: Policy,
        reference: Policy,
        critic: Critic | None,
        ptx: Ptx | None,
        seed: int,
    ) -> None:
        self.training, self.settings, self.seed = training, training.ppo, seed
        self.policy, self.reference, self.critic, self.ptx = policy, reference, critic, ptx
        self.micro_batcher = MicroBatcher(training.micro_batch_tokens, "PPO", policy.backbone)
        self.evaluator = Evaluator(policy, critic, training.ppo, self.micro_batcher)
        self.early_stop = KLEarlyStop(training.ppo.target_kl_per_token)
        policy.backbone.gradient_checkpointing = training.gradient_checkpointing
        critic_lr = training.critic_lr or training.lr
        value_head = _named("value_head", policy.value_head)
        self.optimisers = {
            "policy": Optimiser(
                {**policy.parameters(), **value_head}, training, dict.fromkeys(value_head, critic_lr)
            )
        }
        if critic is not None:
            critic.backbone.gradient_checkpointing = training.gradient_checkpointing
            parameters = {**critic.parameters(), **_named("critic_head", critic.head)}
            self.optimisers["critic"] = Optimiser(parameters, training, dict.fromkeys(parameters, critic_lr))

    def learn(
        self, update: int, rollouts: Minibatch, lr_scale: float, kl_coef: float, *, train_policy: bool = True
    ) -> UpdateStats:
        """Run `epochs` × `minibatches` optimiser steps of update number `update` (from 0).

        Each optimiser step divides by its own counts. Without `train_policy` only the critic is trained, and the
        policy stays bit for bit the same. Raises NonFinite for a non-finite log-probability, value, loss or gradient,
        before that optimiser step changes a weight. Earlier optimiser steps of the update are not undone.
        """
        stats, settings = UpdateStats(), self.settings
        for epoch in range(settings.epochs):
            for position in range(settings.minibatches):
                index = minibatch_indices(update, epoch, position, len(rollouts.rows), settings, self.seed)
                minibatch = rollouts.select(index)
                if not (minibatch.counts.policy if train_policy else minibatch.counts.value):
                    continue
                step = (update * settings.epochs + epoch) * settings.minibatches + position
                stats.begin_step(minibatch.counts)
                self.micro_batcher.retry_on_oom(
                    partial(self._accumulate_gradients, step, minibatch, kl_coef, train_policy, stats),
                    reset=partial(self._restart_step, stats),
                )
                with attach_tensors(minibatch.tensors):
                    stats.end_step(self._optimiser_step(lr_scale))
                if self.early_stop.reached(stats.latest_approxkl):
                    stats.stopped_early = True
                    return stats
        return stats

    def _accumulate_gradients(
        self, step: int, minibatch: Minibatch, kl_coef: float, train_policy: bool, stats: UpdateStats
    ) -> None:
        """Accumulate the gradients of one optimiser step. The micro-batch with a cached forward comes first."""
        cached = self.evaluator.take_cached()
        micro_batches = self._micro_batches(minibatch)
        first = [m for m in micro_batches if cached is not None and m.rows == cached.rows]
        outputs = cached.outputs if cached is not None and first else None
        del cached
        for micro_batch in [*first, *(m for m in micro_batches if m not in first)]:
            self._backward(micro_batch, kl_coef, train_policy, stats, outputs)
            outputs = None  # frees its graph
        if self.ptx is not None and train_policy:
            self._ptx_backward(self.ptx, step, stats)

    def _micro_batches(self, minibatch: Minibatch) -> list[Minibatch]:
        groups = self.micro_batcher.split([[sequence] for sequence in minibatch.batch.sequences()])
        return [minibatch.micro_batch(group) for group in groups]

    def _backward(
        self, micro_batch: Minibatch, kl_coef: float, train_policy: bool, stats: UpdateStats,
        outputs: PolicyOutputs | None,
    ) -> None:  # fmt: skip
        """Add the gradients of one micro-batch. `outputs` are those of its cached forward, if there is one.

        Forward and backward of a role must be in its scope (see `models.backbone`).
        """
        batch, targets, counts = micro_batch.batch, micro_batch.targets, micro_batch.counts
        values = None
        if train_policy or self.critic is None:
            ref_hidden = self._reference_hidden(batch)
            with self.policy.backbone.role(self.policy.adapter):
                outputs = outputs or self.policy.evaluate(
                    batch, self.settings.temperature, detach_states=not train_policy
                )
                loss = outputs.values.new_zeros(())
                if train_policy:
                    kl_loss = self._kl_loss(outputs, batch, micro_batch.ref_logprobs, ref_hidden)
                    kl_loss = None if kl_loss is None else kl_coef * kl_loss
                    loss = policy_loss(outputs, targets, self.settings, stats, kl_loss)
                    loss = loss / policy_divisor(counts, self.settings)
                if self.policy.value_head is not None:
                    values = outputs.values
                    loss = loss + value_loss(values, targets, self.settings, stats) / max(counts.value, 1)
                loss.backward()  # type: ignore[no-untyped-call]
        if self.critic is not None:
            with self.critic.backbone.role(self.critic.adapter):
                values, _ = self.critic.values(batch)
                loss = value_loss(values, targets, self.settings, stats) / max(counts.value, 1)
                loss.backward()  # type: ignore[no-untyped-call]
        checked: list[Checked] = []
        if outputs is not None:
            checked.append(("logprob", outputs.logprobs.detach(), targets.policy_mask))
        if values is not None:
            checked.append(("value", values.detach(), targets.value_mask))
        names = [f"{row} of the update" for row in micro_batch.rows]
        check_finite_loss(stats.latest_loss, checked, "learning", micro_batch.tensors, names)

    @torch.no_grad()
    def _reference_hidden(self, batch: TokenBatch) -> Tensor | None:
        needed = self.settings.kl_in != "reward" and self.settings.kl_estimator == "full"
        return self.reference.response_states(batch) if needed else None

    def _kl_loss(
        self, outputs: PolicyOutputs, batch: TokenBatch, ref_logprobs: Tensor, ref_hidden: Tensor | None
    ) -> Float[Tensor, "batch time"] | None:
        """Compute each token's KL from the reference, with gradient; None if the KL is only in the reward."""
        if self.settings.kl_in == "reward":
            return None
        if ref_hidden is None:
            return ESTIMATORS[self.settings.kl_estimator](outputs.logprobs, ref_logprobs)
        hidden = self.policy.response_states(batch)
        head, ref_head = self.policy.backbone.head, self.reference.backbone.head
        kl = full_kl(hidden, head, ref_hidden, ref_head, self.settings.temperature)
        return scatter_to_mask(kl, batch.response_mask)

    def _ptx_backward(self, ptx: Ptx, step: int, stats: UpdateStats) -> None:
        """Add the gradients of coef × mean negative log-likelihood of `batch_size` demonstrations' responses."""
        size = ptx.settings.batch_size
        rows = [ptx.rows[i] for i in infinite_indices(step * size, size, len(ptx.rows), self.seed, "PPO ptx")]
        count = sum(sum(row.response_mask) for row in rows)
        pad = self.policy.backbone.pad_token
        total = 0.0
        for group in self.micro_batcher.split([[row.tokens] for row in rows]):
            demonstrations = [rows[i] for i in group]
            batch = collate(
                [d.tokens for d in demonstrations], [d.response_mask for d in demonstrations], pad
            )
            batch = batch.to(self.policy.backbone.device)
            with self.policy.backbone.role(self.policy.adapter):
                logprobs = self.policy.evaluate(batch).logprobs
                loss = -logprobs[batch.response_mask].sum() / count
                (ptx.settings.coef * loss).backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
            checked = ("logprob", logprobs.detach(), batch.response_mask)
            names = [d.id for d in demonstrations]
            check_finite_loss(total, [checked], "PPO-ptx", partial(vars, batch), names)
        stats.steps[-1]["ptx/loss"] = total

    def _optimiser_step(self, lr_scale: float) -> float:
        """Step every optimiser; return the policy's gradient norm (the critic's if only the critic trains)."""
        norms = {name: optimiser.clip() for name, optimiser in self.optimisers.items()}
        # Clip all first: no optimiser steps unless all gradients are finite.
        for optimiser in self.optimisers.values():
            optimiser.step(lr_scale)
        return norms["policy"] or norms.get("critic", 0.0)

    def _restart_step(self, stats: UpdateStats) -> None:
        stats.restart_step()
        self.discard_gradients()

    def discard_gradients(self) -> None:
        """Zero the gradients of an optimiser step that is not taken, and drop the cached forward."""
        self.evaluator.drop_cached()
        for optimiser in self.optimisers.values():
            optimiser.zero_grad()

    # -- state ------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Return all trainable parameters and their optimiser state."""
        return {name: t for optimiser in self.optimisers.values() for name, t in optimiser.tensors().items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore `tensors`, in place."""
        for optimiser in self.optimisers.values():
            optimiser.load(tensors)


def _named(prefix: str, head: nn.Module | None) -> dict[str, nn.Parameter]:
    return {f"{prefix}.{name}": p for name, p in head.named_parameters()} if head is not None else {}
