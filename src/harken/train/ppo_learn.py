"""The optimiser steps of one PPO update: epochs, minibatches, micro-batches; policy, critic, supervised mix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from harken.batches import TokenBatch, TokenEvaluation, collate
from harken.config_ppo import PPOTraining, PtxSettings
from harken.maths.kl import ESTIMATORS
from harken.maths.logprobs import full_kl
from harken.models.roles import Critic, Policy, placed
from harken.records import TokenDemonstration
from harken.seeds import permutation
from harken.train.credit import Assigned
from harken.train.guard import require_finite_loss, shown_by
from harken.train.optimiser import Optimiser
from harken.train.order import stream_rows
from harken.train.out_of_memory import TokenBudget
from harken.train.ppo_loss import StepMeasures, policy_loss, value_loss


@dataclass(frozen=True)
class Ptx:
    """Demonstrations whose likelihood is mixed into every optimiser step."""

    rows: Sequence[TokenDemonstration]
    settings: PtxSettings


@dataclass(frozen=True)
class Ready:
    """A micro-batch's rows and the forward, with its graph, that the policy made of them."""

    rows: list[int]
    now: TokenEvaluation


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
        self._ready: Ready | None = None
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

    def first_step_last(self, number: int, batch: TokenBatch) -> list[list[int]]:
        """Micro-batches of a whole rollout batch; the last is the largest of the first optimiser step."""
        first = self._rows(number, 0, 0, len(batch.tokens))
        others = sorted(set(range(len(batch.tokens))) - set(first))
        lengths = batch.real.sum(-1)
        of_first = sorted(self._groups(batch, first), key=lambda rows: int(lengths[rows].sum()))
        return [*self._groups(batch, others), *of_first]

    def prepare(self, piece: TokenBatch, rows: list[int]) -> TokenEvaluation:
        """The policy's forward over a micro-batch of the coming update's first optimiser step, kept to learn from."""
        with torch.enable_grad(), self.policy.backbone.role(self.policy.adapter):
            now = self.policy.evaluate(piece, self.settings.temperature)
        self._ready = Ready(rows, now)
        return now

    def learn(
        self,
        number: int,
        batch: TokenBatch,
        assigned: Assigned,
        reference_logprobs: Float[Tensor, "batch time"],
        factor: float,
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
                counts = int(assigned.learnable[rows].sum()), int(assigned.valued[rows].sum())
                if counts[critic_alone] == 0:
                    continue
                step = (number * self.settings.epochs + epoch) * self.settings.minibatches + part
                measures.begin(*counts)
                self.budget.fit(
                    partial(
                        self._gradients, step, batch, rows, assigned, reference_logprobs, counts,
                        kl_coefficient, critic_alone, measures,
                    ),
                    partial(self._forget, measures),
                )  # fmt: skip
                with shown_by(partial(_rows_shown, batch, rows, assigned, reference_logprobs)):
                    measures.end(self._step(factor))
                limit = self.settings.target_kl_per_token
                if limit is not None and measures.latest_approxkl > limit:
                    measures.stopped_early = True
                    return measures
        return measures

    def _gradients(
        self, step: int, batch: TokenBatch, rows: Sequence[int], assigned: Assigned, reference_logprobs: Tensor,
        counts: tuple[int, int], kl_coefficient: float, critic_alone: bool, measures: StepMeasures,
    ) -> None:  # fmt: skip
        """Gradients of one optimiser step, micro-batch by micro-batch: first what is ready, to free its graph."""
        ready, self._ready = self._ready, None
        groups = self._groups(batch, rows)
        if ready is not None and ready.rows in groups:
            groups.remove(ready.rows)
            self._backward(
                batch.rows(ready.rows), ready.rows, assigned, reference_logprobs, counts, kl_coefficient,
                critic_alone, measures, ready.now,
            )  # fmt: skip
        ready = None  # with its graph
        for group in groups:
            self._backward(
                batch.rows(group), group, assigned, reference_logprobs, counts, kl_coefficient,
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
        self, piece: TokenBatch, group: list[int], assigned: Assigned, reference_logprobs: Tensor,
        counts: tuple[int, int], kl_coefficient: float, critic_alone: bool, measures: StepMeasures,
        now: TokenEvaluation | None = None,
    ) -> None:  # fmt: skip
        """Gradients of a micro-batch, whose forward may be there already.

        Forward and backward of a role stay in its scope (see `models.backbone`).
        """
        width = piece.tokens.shape[1]
        credit = assigned.credit.rows(group, width)
        learnable, valued = assigned.learnable[group, :width], assigned.valued[group, :width]
        temperature, values = self.settings.temperature, None
        if not critic_alone or self.critic is None:
            with torch.no_grad():
                towards = self._reference_states(piece)
            with self.policy.backbone.role(self.policy.adapter):
                now = now or self.policy.evaluate(piece, temperature, heads_alone=critic_alone)
                loss = now.values.new_zeros(())
                if not critic_alone:
                    price = self._kl_price(piece, now, reference_logprobs[group, :width], towards)
                    price = None if price is None else kl_coefficient * price
                    loss = policy_loss(now, credit, learnable, self.settings, measures, price) / counts[0]
                if self.policy.value_head is not None:
                    values = now.values
                    of_values = value_loss(now.values, credit, valued, self.settings, measures)
                    loss = loss + of_values / max(counts[1], 1)
                loss.backward()  # type: ignore[no-untyped-call]
        if self.critic is not None:
            with self.critic.backbone.role(self.critic.adapter):
                values, _ = self.critic.values(piece)
                of_values = value_loss(values, credit, valued, self.settings, measures)
                (of_values / max(counts[1], 1)).backward()  # type: ignore[no-untyped-call]
        looked = [("logprob", now.logprobs.detach(), learnable)] if now else []
        looked += [("value", values.detach(), valued)] if values is not None else []
        require_finite_loss(
            measures.latest_loss, looked, "learning", partial(_shown, piece, group, assigned, reference_logprobs),
            [f"{row} of the update" for row in group],
        )  # fmt: skip

    def _reference_states(self, piece: TokenBatch) -> Tensor | None:
        wanted = self.settings.kl_in != "reward" and self.settings.kl_estimator == "full"
        return self.reference.states(piece) if wanted else None

    def _kl_price(
        self, piece: TokenBatch, now: TokenEvaluation, reference_logprobs: Tensor, towards: Tensor | None
    ) -> Tensor | None:
        """The KL a token pays in the loss, [batch, time]; None when it was paid in the reward."""
        if self.settings.kl_in == "reward":
            return None
        if towards is None:
            return ESTIMATORS[self.settings.kl_estimator](now.logprobs, reference_logprobs)
        states = self.policy.states(piece)
        of_policy, of_reference = self.policy.backbone.head, self.reference.backbone.head
        exact = full_kl(states, of_policy, towards, of_reference, self.settings.temperature)
        return placed(exact, piece.action)

    def _imitate(self, ptx: Ptx, step: int, measures: StepMeasures) -> None:
        """coef × mean negative log-likelihood of `batch_size` demonstrations' answer tokens."""
        size = ptx.settings.batch_size
        rows = [ptx.rows[i] for i in stream_rows(step * size, size, len(ptx.rows), self.seed, "PPO ptx")]
        count = sum(sum(row.action) for row in rows)
        pad = self.policy.backbone.pad_token
        total = 0.0
        for group in self.budget.split([[row.tokens] for row in rows]):
            picked = [rows[i] for i in group]
            batch = collate([r.tokens for r in picked], [r.action for r in picked], pad)
            batch = batch.to(self.policy.backbone.device)
            with self.policy.backbone.role(self.policy.adapter):
                logprobs = self.policy.evaluate(batch).logprobs
                loss = -logprobs[batch.action].sum() / count
                (ptx.settings.coef * loss).backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
            looked = ("logprob", logprobs.detach(), batch.action)
            names = [row.id for row in picked]
            require_finite_loss(total, [looked], "the supervised mix", partial(vars, batch), names)
        measures.steps[-1]["ptx/loss"] = total

    def _step(self, factor: float) -> float:
        """One step of every optimiser; the policy's gradient norm (the critic's when it learns alone)."""
        norms = {name: optimiser.clip() for name, optimiser in self.optimisers.items()}
        for optimiser in self.optimisers.values():  # no one moves before all gradients are known to be finite
            optimiser.move(factor)
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
    piece: TokenBatch, rows: Sequence[int], assigned: Assigned, reference_logprobs: Tensor
) -> dict[str, Tensor]:
    """Some rows of an update as the bundle of a fault has them, with all that their loss takes."""
    width, at = piece.tokens.shape[1], list(rows)
    tables = {
        "learnable": assigned.learnable,
        "valued": assigned.valued,
        "reference_logprobs": reference_logprobs,
    }
    cut = {name: table[at, :width] for name, table in tables.items()}
    return {**vars(piece), **vars(assigned.credit.rows(at, width)), **cut, "rows": torch.tensor(at)}


def _rows_shown(
    batch: TokenBatch, rows: Sequence[int], assigned: Assigned, reference_logprobs: Tensor
) -> dict[str, Tensor]:
    """The same, of a whole rollout batch."""
    return _shown(batch.rows(rows), rows, assigned, reference_logprobs)


def _named(prefix: str, head: nn.Module | None) -> dict[str, nn.Parameter]:
    return {f"{prefix}.{name}": p for name, p in head.named_parameters()} if head is not None else {}
