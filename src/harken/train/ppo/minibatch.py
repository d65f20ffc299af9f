"""Select the rows of an optimiser step, with their PPO targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from harken.batches import TokenBatch
from harken.config.ppo import PPOSettings
from harken.seeds import permutation
from harken.train.ppo.targets import PPOTargets


@dataclass(frozen=True)
class TokenCounts:
    """Divisors of an optimiser step's losses: numbers of tokens, and of responses with policy tokens."""

    policy: int
    value: int
    responses: int

    @classmethod
    def of(
        cls, policy_mask: Bool[Tensor, "batch time"], value_mask: Bool[Tensor, "batch time"]
    ) -> TokenCounts:
        """Count the tokens of both losses and the responses of the policy loss."""
        return cls(int(policy_mask.sum()), int(value_mask.sum()), int(policy_mask.any(-1).sum()))


@dataclass(frozen=True, eq=False)
class Minibatch:
    """Rows of a rollout batch with their PPO targets.

    A micro-batch keeps the `counts` of its optimiser step, so the loss does not depend on the split into micro-batches.
    """

    rows: tuple[int, ...]
    """Row numbers in the rollout batch."""
    batch: TokenBatch
    targets: PPOTargets
    ref_logprobs: Float[Tensor, "batch time"]
    counts: TokenCounts

    @classmethod
    def whole(cls, batch: TokenBatch, targets: PPOTargets, ref_logprobs: Tensor) -> Minibatch:
        """Take every row of a rollout batch."""
        rows = tuple(range(len(batch.tokens)))
        return cls(
            rows, batch, targets, ref_logprobs, TokenCounts.of(targets.policy_mask, targets.value_mask)
        )

    def select(self, index: Sequence[int]) -> Minibatch:
        """Take the rows `index` as the minibatch of an optimiser step, with its own counts."""
        rows = self.micro_batch(index)
        counts = TokenCounts.of(rows.targets.policy_mask, rows.targets.value_mask)
        return Minibatch(rows.rows, rows.batch, rows.targets, rows.ref_logprobs, counts)

    def micro_batch(self, index: Sequence[int]) -> Minibatch:
        """Take the rows `index`, padded to the longest of them, as part of the same optimiser step."""
        batch, index = self.batch.select(index), list(index)
        width = batch.tokens.shape[1]
        rows = tuple(self.rows[i] for i in index)
        return Minibatch(
            rows, batch, self.targets.select(index, width), self.ref_logprobs[index, :width], self.counts
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return its tensors by name, for a NaN dump."""
        return {
            **vars(self.batch),
            **vars(self.targets),
            "reference_logprobs": self.ref_logprobs,
            "rows": torch.tensor(self.rows),
        }


def minibatch_indices(
    update: int, epoch: int, position: int, size: int, settings: PPOSettings, seed: int
) -> list[int]:
    """Return the row indices of one minibatch: of `size` rows, at `position` of an epoch of update number `update`."""
    order = permutation(size, seed, "PPO minibatches", update, epoch)
    return list(order[position :: settings.minibatches])
