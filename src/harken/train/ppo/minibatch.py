"""The rows of one optimiser step, with everything that their losses take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from harken.batches import TokenBatch
from harken.config.ppo import PPOSettings
from harken.seeds import permutation
from harken.train.ppo.targets import PPOTargets


@dataclass(frozen=True)
class TokenCounts:
    """How many tokens the policy's and the critic's loss of an optimiser step average over."""

    policy: int
    value: int


@dataclass(frozen=True, eq=False)
class Minibatch:
    """Rows of a rollout batch. In a micro-batch, `counts` are still those of the whole optimiser step.

    So the loss of a step does not depend on how it is split into micro-batches.
    """

    rows: tuple[int, ...]
    """Their numbers in the rollout batch."""
    batch: TokenBatch
    targets: PPOTargets
    ref_logprobs: Float[Tensor, "batch time"]
    counts: TokenCounts

    @classmethod
    def whole(cls, batch: TokenBatch, targets: PPOTargets, ref_logprobs: Tensor) -> Minibatch:
        """Take every row of a rollout batch."""
        rows = tuple(range(len(batch.tokens)))
        return cls(rows, batch, targets, ref_logprobs, _count(targets))

    def select(self, index: Sequence[int]) -> Minibatch:
        """Take some of its rows as the minibatch of an optimiser step, with counts of its own."""
        part = self.micro_batch(index)
        return Minibatch(part.rows, part.batch, part.targets, part.ref_logprobs, _count(part.targets))

    def micro_batch(self, index: Sequence[int]) -> Minibatch:
        """Take some of its rows, cut to the longest of them, as a part of the same optimiser step."""
        batch, at = self.batch.select(index), list(index)
        width = batch.tokens.shape[1]
        rows = tuple(self.rows[i] for i in at)
        return Minibatch(
            rows, batch, self.targets.rows(at, width), self.ref_logprobs[at, :width], self.counts
        )

    def tensors(self) -> dict[str, Tensor]:
        """Name its tensors as the dump of a non-finite step holds them."""
        return {
            **vars(self.batch),
            **vars(self.targets),
            "reference_logprobs": self.ref_logprobs,
            "rows": torch.tensor(self.rows),
        }


def minibatch_indices(
    number: int, epoch: int, part: int, size: int, settings: PPOSettings, seed: int
) -> list[int]:
    """Which of `size` rows optimiser step `part` of an epoch of update `number` learns from."""
    order = permutation(size, seed, "PPO minibatches", number, epoch)
    return list(order[part :: settings.minibatches])


def _count(targets: PPOTargets) -> TokenCounts:
    return TokenCounts(int(targets.policy_mask.sum()), int(targets.value_mask.sum()))
