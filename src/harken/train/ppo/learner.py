"""The optimiser steps of one PPO update: epochs, minibatches, micro-batches; policy, critic, supervised mix."""

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
from harken.seeds import permutation
from harken.train.nonfinite import attach_tensors, check_finite_loss
from harken.train.oom_retry import TokenBudget
from harken.train.optim.optimiser import Optimiser
from harken.train.ppo.loss import StepMeasures, policy_loss, value_loss
from harken.train.ppo.targets import PPOTargets
from harken.train.sampler import infinite_indices


@dataclass(frozen=True)
class Ptx:
    """Demonstrations whose likelihood is mixed into every optimiser step."""

    rows: Sequence[TokenDemonstration]
    settings: PtxSettings


@dataclass(frozen=True)
class CachedForward:
    """A micro-batch's rows and the forward, with its graph, that the policy made of them."""

    rows: list[int]
    now: PolicyOutputs


class Learner:
    """Changes the policy (and its critic) towards the credit it is given, and nothing else."""

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
        self.budget = TokenBudget(training.micro_batch_tokens, "PPO", policy.backbone)
        self._ready: CachedForward | None = None
        policy.backbone.gradient_checkpointing = training.gradient_checkpointing
        critic_lr = training.critic_lr or training.lr
        head = _named("value_head", policy.value_head)
        self.optimisers = {
            "policy": Optimiser({**policy.parameters(), **head}, training, dict.fromkeys(head, critic_lr))
        }
        if critic is not None:
            critic.backbone.gradient_checkpointing = training.gradient_checkpointing
            own = {**critic.parameters(), **_named("critic_head", critic.head)}
            self.optimisers["critic"] = Optimiser(own, training, dict.fromkeys(own, critic_lr))

    def first_minibatch_last(self, number: int, batch: TokenBatch) -> list[list[int]]:
        """Micro-batches of a whole rollout batch; the last is the largest of the first optimiser step."""
        first = self._rows(number, 0, 0, len(batch.tokens))
        others = sorted(set(range(len(batch.tokens))) - set(first))
        lengths = batch.attention_mask.sum(-1)
        of_first = sorted(self._groups(batch, first), key=lambda rows: int(lengths[rows].sum()))
        return [*self._groups(batch, others), *of_first]

    def forward_keep_graph(self, piece: TokenBatch, rows: list[int]) -> PolicyOutputs:
        """The policy's forward over a micro-batch of the coming update's first optimiser step, kept to learn from."""
        with torch.enable_grad(), self.policy.backbone.role(self.policy.adapter):
            now = self.policy.evaluate(piece, self.settings.temperature)
        self._ready = CachedForward(rows, now)
        return now

    def learn(
        self,
        number: int,
        batch: TokenBatch,
        targets: PPOTargets,
        reference_logprobs: Float[Tensor, "batch time"],
        lr_scale: float,
        kl_coefficient: float,
        critic_alone: bool = False,
    ) -> StepMeasures:
        """`epochs` passes in `minibatches` optimiser steps, each normalised by its own count of tokens.

        `critic_alone`: the policy stays as it is, to the last bit, while the critic warms up.
        Raises NonFinite for a log-probability, value, loss or gradient that is not finite, before the optimiser step
        that met it moved anything; steps before it were taken.
        """
        measures = StepMeasures()
        for epoch in range(self.settings.epochs):
            for part in range(self.settings.minibatches):
                rows = self._rows(number, epoch, part, len(batch.tokens))
                counts = int(targets.policy_mask[rows].sum()), int(targets.value_mask[rows].sum())
                if counts[critic_alone] == 0:
                    continue
                step = (number * self.settings.epochs + epoch) * self.settings.minibatches + part
                measures.begin(*counts)
                self.budget.retry_on_oom(
                    partial(
                        self._gradients, step, batch, rows, targets, reference_logprobs, counts,
                        kl_coefficient, critic_alone, measures,
                    ),
                    partial(self._forget, measures),
                )  # fmt: skip
                with attach_tensors(partial(_rows_shown, batch, rows, targets, reference_logprobs)):
                    measures.end(self._step(lr_scale))
                limit = self.settings.target_kl_per_token
                if limit is not None and measures.latest_approxkl > limit:
                    measures.stopped_early = True
                    return measures
        return measures

    def _gradients(
        self, step: int, batch: TokenBatch, rows: Sequence[int], targets: PPOTargets, reference_logprobs: Tensor,
        counts: tuple[int, int], kl_coefficient: float, critic_alone: bool, measures: StepMeasures,
    ) -> None:  # fmt: skip
        """Gradients of one optimiser step, micro-batch by micro-batch: first what is ready, to free its graph."""
        ready, self._ready = self._ready, None
        groups = self._groups(batch, rows)
        if ready is not None and ready.rows in groups:
            groups.remove(ready.rows)
            self._backward(
                batch.rows(ready.rows), ready.rows, targets, reference_logprobs, counts, kl_coefficient,
                critic_alone, measures, ready.now,
            )  # fmt: skip
        ready = None  # with its graph
        for group in groups:
            self._backward(
                batch.rows(group), group, targets, reference_logprobs, counts, kl_coefficient,
                critic_alone, measures,
            )  # fmt: skip
        if self.ptx is not None and not critic_alone:
            self._imitate(self.ptx, step, measures)

    def _forget(self, measures: StepMeasures) -> None:
        """Of an attempt that ran out of memory."""
        measures.again()
        self.give_up()

    def give_up(self) -> None:
        """Drop what an optimiser step that is not taken has made: its gradients, and a forward kept for it."""
        self._ready = None
        for optimiser in self.optimisers.values():
            optimiser.clear()

    def _backward(
        self, piece: TokenBatch, group: list[int], targets: PPOTargets, reference_logprobs: Tensor,
        counts: tuple[int, int], kl_coefficient: float, critic_alone: bool, measures: StepMeasures,
        now: PolicyOutputs | None = None,
    ) -> None:  # fmt: skip
        """Gradients of a micro-batch, whose forward may be there already.

        Forward and backward of a role stay in its scope (see `models.backbone`).
        """
        width = piece.tokens.shape[1]
        credit = targets.credit.rows(group, width)
        policy_mask, value_mask = targets.policy_mask[group, :width], targets.value_mask[group, :width]
        temperature, values = self.settings.temperature, None
        if not critic_alone or self.critic is None:
            with torch.no_grad():
                ref_hidden = self._reference_states(piece)
            with self.policy.backbone.role(self.policy.adapter):
                now = now or self.policy.evaluate(piece, temperature, heads_alone=critic_alone)
                loss = now.values.new_zeros(())
                if not critic_alone:
                    kl_penalty = self._kl_price(piece, now, reference_logprobs[group, :width], ref_hidden)
                    kl_penalty = None if kl_penalty is None else kl_coefficient * kl_penalty
                    loss = (
                        policy_loss(now, credit, policy_mask, self.settings, measures, kl_penalty) / counts[0]
                    )
                if self.policy.value_head is not None:
                    values = now.values
                    value_term = value_loss(now.values, credit, value_mask, self.settings, measures)
                    loss = loss + value_term / max(counts[1], 1)
                loss.backward()  # type: ignore[no-untyped-call]
        if self.critic is not None:
            with self.critic.backbone.role(self.critic.adapter):
                values, _ = self.critic.values(piece)
                value_term = value_loss(values, credit, value_mask, self.settings, measures)
                (value_term / max(counts[1], 1)).backward()  # type: ignore[no-untyped-call]
        checked = [("logprob", now.logprobs.detach(), policy_mask)] if now else []
        checked += [("value", values.detach(), value_mask)] if values is not None else []
        check_finite_loss(
            measures.latest_loss, checked, "learning", partial(_shown, piece, group, targets, reference_logprobs),
            [f"{row} of the update" for row in group],
        )  # fmt: skip

    def _reference_states(self, piece: TokenBatch) -> Tensor | None:
        wanted = self.settings.kl_in != "reward" and self.settings.kl_estimator == "full"
        return self.reference.states(piece) if wanted else None

    def _kl_price(
        self, piece: TokenBatch, now: PolicyOutputs, reference_logprobs: Tensor, ref_hidden: Tensor | None
    ) -> Tensor | None:
        """The KL a token pays in the loss, [batch, time]; None when it was paid in the reward."""
        if self.settings.kl_in == "reward":
            return None
        if ref_hidden is None:
            return ESTIMATORS[self.settings.kl_estimator](now.logprobs, reference_logprobs)
        states = self.policy.states(piece)
        of_policy, of_reference = self.policy.backbone.head, self.reference.backbone.head
        exact = full_kl(states, of_policy, ref_hidden, of_reference, self.settings.temperature)
        return scatter_to_mask(exact, piece.response_mask)

    def _imitate(self, ptx: Ptx, step: int, measures: StepMeasures) -> None:
        """coef × mean negative log-likelihood of `batch_size` demonstrations' answer tokens."""
        size = ptx.settings.batch_size
        rows = [ptx.rows[i] for i in infinite_indices(step * size, size, len(ptx.rows), self.seed, "PPO ptx")]
        count = sum(sum(row.response_mask) for row in rows)
        pad = self.policy.backbone.pad_token
        total = 0.0
        for group in self.budget.split([[row.tokens] for row in rows]):
            picked = [rows[i] for i in group]
            batch = collate([r.tokens for r in picked], [r.response_mask for r in picked], pad)
            batch = batch.to(self.policy.backbone.device)
            with self.policy.backbone.role(self.policy.adapter):
                logprobs = self.policy.evaluate(batch).logprobs
                loss = -logprobs[batch.response_mask].sum() / count
                (ptx.settings.coef * loss).backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
            checked = ("logprob", logprobs.detach(), batch.response_mask)
            names = [row.id for row in picked]
            check_finite_loss(total, [checked], "the supervised mix", partial(vars, batch), names)
        measures.steps[-1]["ptx/loss"] = total

    def _step(self, lr_scale: float) -> float:
        """One step of every optimiser; the policy's gradient norm (the critic's when it learns alone)."""
        norms = {name: optimiser.clip() for name, optimiser in self.optimisers.items()}
        for optimiser in self.optimisers.values():  # no one moves before all gradients are known to be finite
            optimiser.move(lr_scale)
        return norms["policy"] or norms.get("critic", 0.0)

    def _rows(self, number: int, epoch: int, part: int, size: int) -> list[int]:
        """The rows of an optimiser step."""
        order = permutation(size, self.seed, "PPO minibatches", number, epoch)
        return list(order[part :: self.settings.minibatches])

    def _groups(self, batch: TokenBatch, rows: Sequence[int]) -> list[list[int]]:
        sequences = batch.sequences()
        groups = self.budget.split([[sequences[i]] for i in rows])
        return [[rows[i] for i in group] for group in groups]

    # -- state ------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """All that trains, with its moments."""
        return {name: t for optimiser in self.optimisers.values() for name, t in optimiser.tensors().items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """The reverse of `tensors`, in place."""
        for optimiser in self.optimisers.values():
            optimiser.load(tensors)


def _shown(
    piece: TokenBatch, rows: Sequence[int], targets: PPOTargets, reference_logprobs: Tensor
) -> dict[str, Tensor]:
    """Some rows of an update as the bundle of a fault has them, with all that their loss takes."""
    width, at = piece.tokens.shape[1], list(rows)
    tables = {
        "policy_mask": targets.policy_mask,
        "value_mask": targets.value_mask,
        "reference_logprobs": reference_logprobs,
    }
    cut = {name: table[at, :width] for name, table in tables.items()}
    return {**vars(piece), **vars(targets.credit.rows(at, width)), **cut, "rows": torch.tensor(at)}


def _rows_shown(
    batch: TokenBatch, rows: Sequence[int], targets: PPOTargets, reference_logprobs: Tensor
) -> dict[str, Tensor]:
    """The same, of a whole rollout batch."""
    return _shown(batch.rows(rows), rows, targets, reference_logprobs)


def _named(prefix: str, head: nn.Module | None) -> dict[str, nn.Parameter]:
    return {f"{prefix}.{name}": p for name, p in head.named_parameters()} if head is not None else {}
