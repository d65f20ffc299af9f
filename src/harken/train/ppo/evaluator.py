"""Run the forward passes over a rollout batch that precede its optimiser steps."""

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
from harken.train.oom_retry import MicroBatcher


@dataclass(frozen=True)
class CachedForward:
    """The policy's outputs for some rows of a rollout batch, with their autograd graph."""

    rows: tuple[int, ...]
    outputs: PolicyOutputs


class Evaluator:
    """Evaluate a batch under policy, critic and reference in micro-batches, with OOM retry.

    The graph of one micro-batch is kept for the first optimiser step. The policy does not change before that step, so
    its forward need not be computed twice.
    """

    def __init__(
        self, policy: Policy, critic: Critic | None, settings: PPOSettings, micro_batcher: MicroBatcher
    ) -> None:
        self.policy, self.critic, self.settings, self.micro_batcher = policy, critic, settings, micro_batcher
        self.cached: CachedForward | None = None

    def logprobs(self, model: Policy, batch: TokenBatch) -> Float[Tensor, "batch time"]:
        """Compute the log-probabilities of the response tokens under `model`, nats."""
        return self._per_token(
            batch, lambda micro_batch: model.evaluate(micro_batch, self.settings.temperature).logprobs
        )

    def full_kl(self, reference: Policy, batch: TokenBatch) -> Float[Tensor, "batch time"]:
        """Compute KL(policy ‖ reference) over the whole vocabulary at each response token, nats."""
        head, ref_head = self.policy.backbone.head, reference.backbone.head

        def forward(micro_batch: TokenBatch) -> Tensor:
            hidden = self.policy.response_states(micro_batch)
            ref_hidden = reference.response_states(micro_batch)
            kl = full_kl(hidden, head, ref_hidden, ref_head, self.settings.temperature)
            return scatter_to_mask(kl, micro_batch.response_mask)

        return self._per_token(batch, forward)

    def old_logprobs_and_values(
        self, batch: TokenBatch, first_minibatch: Sequence[int], *, keep_graph: bool
    ) -> PolicyOutputs:
        """Compute the old log-probabilities, entropy and values, with the same forward as training.

        With `keep_graph`, the largest micro-batch of `first_minibatch` (rows of the batch) runs last and its graph is
        kept.
        """

        @torch.no_grad()
        def attempt() -> PolicyOutputs:
            logprobs, entropy, values = torch.zeros((3, *batch.tokens.shape), device=batch.tokens.device)
            final_values = torch.zeros(len(batch.tokens), device=batch.tokens.device)
            row_groups = self.first_minibatch_last(batch, first_minibatch)
            for rows in row_groups:
                micro_batch = batch.select(rows)
                if keep_graph and rows is row_groups[-1]:
                    outputs = self._forward_keep_graph(micro_batch, rows)
                else:
                    outputs = self.policy.evaluate(micro_batch, self.settings.temperature)
                width = micro_batch.tokens.shape[1]
                logprobs[rows, :width], entropy[rows, :width] = outputs.logprobs, outputs.entropy
                assert outputs.final_values is not None
                value_head_outputs = outputs.values, outputs.final_values
                values[rows, :width], final_values[rows] = (
                    self.critic.values(micro_batch) if self.critic else value_head_outputs
                )
            return PolicyOutputs(logprobs, entropy, values, final_values)

        return self.micro_batcher.retry_on_oom(attempt, reset=self.drop_cached)

    def first_minibatch_last(self, batch: TokenBatch, first_minibatch: Sequence[int]) -> list[list[int]]:
        """Split the batch into micro-batches, ending with the largest micro-batch of `first_minibatch`."""
        remaining = sorted(set(range(len(batch.tokens))) - set(first_minibatch))
        lengths = batch.attention_mask.sum(-1)
        first = sorted(self._micro_batches(batch, first_minibatch), key=lambda rows: int(lengths[rows].sum()))
        return [*self._micro_batches(batch, remaining), *first]

    def take_cached(self) -> CachedForward | None:
        """Return the cached forward and forget it; None if there is none."""
        cached, self.cached = self.cached, None
        return cached

    def drop_cached(self) -> None:
        """Free the cached forward and its graph."""
        self.cached = None

    def _per_token(
        self, batch: TokenBatch, forward: Callable[[TokenBatch], Tensor]
    ) -> Float[Tensor, "batch time"]:
        """Run `forward` on each micro-batch and gather its values; zero in the padding."""

        @torch.no_grad()
        def attempt() -> Tensor:
            values = torch.zeros(batch.tokens.shape, device=batch.tokens.device)
            for rows in self._micro_batches(batch):
                micro_batch = batch.select(rows)
                values[rows, : micro_batch.tokens.shape[1]] = forward(micro_batch)
            return values

        return self.micro_batcher.retry_on_oom(attempt)

    def _forward_keep_graph(self, micro_batch: TokenBatch, rows: Sequence[int]) -> PolicyOutputs:
        with torch.enable_grad(), self.policy.backbone.role(self.policy.adapter):
            outputs = self.policy.evaluate(micro_batch, self.settings.temperature)
        self.cached = CachedForward(tuple(rows), outputs)
        return outputs

    def _micro_batches(self, batch: TokenBatch, rows: Sequence[int] | None = None) -> list[list[int]]:
        sequences = batch.sequences()
        rows = range(len(sequences)) if rows is None else rows
        groups = self.micro_batcher.split([[sequences[i]] for i in rows])
        return [[rows[i] for i in group] for group in groups]
