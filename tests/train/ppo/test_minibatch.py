"""The rows of an optimiser step, and the token counts that its losses are divided by."""

from __future__ import annotations

import torch

from harken.batches import collate
from harken.train.ppo.minibatch import Minibatch, TokenCounts
from harken.train.ppo.targets import PPOTargets


def rollouts() -> Minibatch:
    """Three rows of 1, 2 and 3 response tokens; the critic trains on the first response token alone."""
    lengths = (1, 2, 3)
    batch = collate([[5, *[6] * n] for n in lengths], [[False, *[True] * n] for n in lengths], 0)
    zeros, value_mask = torch.zeros(batch.tokens.shape), torch.zeros(batch.tokens.shape, dtype=torch.bool)
    value_mask[:, 1] = True
    targets = PPOTargets(zeros, zeros, zeros, zeros, batch.response_mask, value_mask, zeros, zeros, zeros)
    return Minibatch.whole(batch, targets, zeros)


def test_an_optimiser_step_counts_its_own_tokens_and_a_micro_batch_those_of_its_step() -> None:
    whole = rollouts()
    assert whole.counts == TokenCounts(6, 3, 3)
    step = whole.select([2, 0])
    assert (step.rows, step.counts) == ((2, 0), TokenCounts(4, 2, 2))
    micro_batch = step.micro_batch([1])
    assert (micro_batch.rows, micro_batch.counts) == ((0,), TokenCounts(4, 2, 2))
    assert micro_batch.batch.tokens.shape == micro_batch.ref_logprobs.shape == (1, 2)
