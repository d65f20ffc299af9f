"""Forward passes over a rollout batch, before anything is learnt from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from harken.batches import PolicyOutputs, TokenBatch
from harken.config.ppo import PPOSettings
from harken.maths.logprobs import full_kl
from harken.models.roles import Critic, Policy, scatter_to_mask
from harken.train.oom_retry import TokenBudget


@dataclass(frozen=True)
class CachedForward:
    """The policy's forward over some rows of a rollout batch, with its graph."""

    rows: tuple[int, ...]
    outputs: PolicyOutputs


class Evaluator:
    """Runs policy, critic and reference in micro-batches; out of memory, in smaller ones.

    The forward of one micro-batch is kept with its graph for the first optimiser step: the policy has not moved until
    then, so the same forward need not be computed twice.
    """

    def __init__(
        self, policy: Policy, critic: Critic | None, settings: PPOSettings, budget: TokenBudget
    ) -> None:
        self.policy, self.critic, self.settings, self.budget = policy, critic, settings, budget
        self.cached: CachedForward | None = None

    def logprobs(self, model: Policy, batch: TokenBatch) -> Float[Tensor, "batch time"]:
        """Log-probabilities of the response tokens under `model`, nats."""
        return self._per_token(batch, lambda piece: model.evaluate(piece, self.settings.temperature).logprobs)

    def full_kl(self, reference: Policy, batch: TokenBatch) -> Float[Tensor, "batch time"]:
        """KL(policy ‖ reference) of the whole distribution that each response token was sampled from, nats."""
        heads = self.policy.backbone.head, reference.backbone.head

        def of_piece(piece: TokenBatch) -> Tensor:
            states, ref_states = self.policy.response_states(piece), reference.response_states(piece)
            kl = full_kl(states, heads[0], ref_states, heads[1], self.settings.temperature)
            return scatter_to_mask(kl, piece.response_mask)

        return self._per_token(batch, of_piece)

    def policy_and_values(
        self, batch: TokenBatch, first_minibatch: Sequence[int], *, keep_graph: bool
    ) -> PolicyOutputs:
        """Log-probabilities, entropy and values from the training forward of policy and critic.

        With `keep_graph`, the largest micro-batch of `first_minibatch` (rows of the batch) runs last and is kept.
        """

        @torch.no_grad()
        def attempt() -> PolicyOutputs:
            logprobs, entropy, values = torch.zeros((3, *batch.tokens.shape), device=batch.tokens.device)
            final_values = torch.zeros(len(batch.tokens), device=batch.tokens.device)
            groups = self.first_minibatch_last(batch, first_minibatch)
            for rows in groups:
                piece = batch.select(rows)
                if keep_graph and rows is groups[-1]:
                    outputs = self._forward_keep_graph(piece, rows)
                else:
                    outputs = self.policy.evaluate(piece, self.settings.temperature)
                width = piece.tokens.shape[1]
                logprobs[rows, :width], entropy[rows, :width] = outputs.logprobs, outputs.entropy
                assert outputs.final_values is not None
                own_values = outputs.values, outputs.final_values
                values[rows, :width], final_values[rows] = (
                    self.critic.values(piece) if self.critic else own_values
                )
            return PolicyOutputs(logprobs, entropy, values, final_values)

        return self.budget.retry_on_oom(attempt, reset=self.drop_cached)

    def first_minibatch_last(self, batch: TokenBatch, first_minibatch: Sequence[int]) -> list[list[int]]:
        """Micro-batches of the whole batch; the last is the largest of `first_minibatch`."""
        others = sorted(set(range(len(batch.tokens))) - set(first_minibatch))
        lengths = batch.attention_mask.sum(-1)
        of_first = sorted(
            self._micro_batches(batch, first_minibatch), key=lambda rows: int(lengths[rows].sum())
        )
        return [*self._micro_batches(batch, others), *of_first]

    def take_cached(self) -> CachedForward | None:
        """Hand over the kept forward, once."""
        cached, self.cached = self.cached, None
        return cached

    def drop_cached(self) -> None:
        """Free the kept forward and its graph."""
        self.cached = None

    def _per_token(
        self, batch: TokenBatch, forward: Callable[[TokenBatch], Tensor]
    ) -> Float[Tensor, "batch time"]:
        """Put together what `forward` gives of each micro-batch; zero in the padding."""

        @torch.no_grad()
        def attempt() -> Tensor:
            values = torch.zeros(batch.tokens.shape, device=batch.tokens.device)
            for rows in self._micro_batches(batch):
                piece = batch.select(rows)
                values[rows, : piece.tokens.shape[1]] = forward(piece)
            return values

        return self.budget.retry_on_oom(attempt)

    def _forward_keep_graph(self, piece: TokenBatch, rows: Sequence[int]) -> PolicyOutputs:
        with torch.enable_grad(), self.policy.backbone.role(self.policy.adapter):
            outputs = self.policy.evaluate(piece, self.settings.temperature)
        self.cached = CachedForward(tuple(rows), outputs)
        return outputs

    def _micro_batches(self, batch: TokenBatch, rows: Sequence[int] | None = None) -> list[list[int]]:
        sequences = batch.sequences()
        wanted = range(len(sequences)) if rows is None else rows
        groups = self.budget.split([[sequences[i]] for i in wanted])
        return [[wanted[i] for i in group] for group in groups]
