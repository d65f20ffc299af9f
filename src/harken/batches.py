"""Define batches of token tensors and their alignment.

Every per-token tensor has the shape of `tokens`, and entry t describes token t:

    logprobs[t] = log π(tokens[t] | tokens[<t])      values[t] = V(tokens[<t])
    response_mask[t] = the policy sampled tokens[t]

A transformer's output at position t describes token t+1. `shift_right` is the only place that shifts by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Item = Sequence[Sequence[int]]
"""Token sequences that stay in one forward: a response, or both sides of a pair."""


@dataclass(frozen=True)
class TokenBatch:
    """Right-padded token ids. `response_mask` marks the tokens that the loss is computed on."""

    tokens: Int[Tensor, "batch time"]
    attention_mask: Bool[Tensor, "batch time"]
    response_mask: Bool[Tensor, "batch time"]

    def to(self, device: torch.device | str) -> TokenBatch:
        """Return the batch on another device."""
        return TokenBatch(
            self.tokens.to(device), self.attention_mask.to(device), self.response_mask.to(device)
        )

    def sequences(self) -> list[list[int]]:
        """Return the tokens of each row without padding."""
        lengths = self.attention_mask.sum(-1).tolist()
        return [row[:length] for row, length in zip(self.tokens.tolist(), lengths, strict=True)]

    def select(self, index: Sequence[int]) -> TokenBatch:
        """Return the given rows, padded only to the longest of them."""
        where = torch.as_tensor(list(index), device=self.tokens.device)
        attention_mask = self.attention_mask[where]
        width = max(int(attention_mask.sum(-1).max()), 1) if len(index) else 0
        return TokenBatch(
            self.tokens[where, :width], attention_mask[:, :width], self.response_mask[where, :width]
        )


@dataclass(frozen=True)
class PolicyOutputs:
    """Per-token outputs of a policy (and critic). Undefined where `response_mask` is False.

    `final_values` is V after the last token of the row: the bootstrap value of a truncated response.
    """

    logprobs: Float[Tensor, "batch time"]
    entropy: Float[Tensor, "batch time"]
    values: Float[Tensor, "batch time"]
    final_values: Float[Tensor, " batch"] | None = None


def collate(
    sequences: Sequence[Sequence[int]], response_masks: Sequence[Sequence[bool]], pad_token: int
) -> TokenBatch:
    """Pad ragged rows on the right to one batch.

    `response_masks[i]` must be as long as `sequences[i]`. Raises ValueError when it is not, or when there are no rows.
    """
    if not sequences or any(len(s) != len(m) for s, m in zip(sequences, response_masks, strict=True)):
        raise ValueError("collate needs at least one row and one response mask entry for every token")
    width = max(len(s) for s in sequences)
    tokens = torch.full((len(sequences), width), pad_token, dtype=torch.long)
    attention_mask = torch.zeros(len(sequences), width, dtype=torch.bool)
    response_mask = torch.zeros(len(sequences), width, dtype=torch.bool)
    for row, (sequence, flags) in enumerate(zip(sequences, response_masks, strict=True)):
        tokens[row, : len(sequence)] = torch.as_tensor(list(sequence), dtype=torch.long)
        attention_mask[row, : len(sequence)] = True
        response_mask[row, : len(sequence)] = torch.as_tensor(list(flags), dtype=torch.bool)
    return TokenBatch(tokens, attention_mask, response_mask)


def shift_right(
    outputs: Float[Tensor, "batch time *features"],
) -> Float[Tensor, "batch time *features"]:
    """Move a model's output one step to the right, so that entry t describes token t.

    Entry 0 has no predecessor: it is set to zero and is never in the response mask.
    """
    first = torch.zeros_like(outputs[:, :1])
    return torch.cat([first, outputs[:, :-1]], dim=1)


def last_states(hidden: Float[Tensor, "batch time width"], batch: TokenBatch) -> Float[Tensor, "batch width"]:
    """Return the hidden state at each row's last non-padding token."""
    last = batch.attention_mask.sum(-1) - 1
    states: Tensor = hidden[torch.arange(len(last), device=last.device), last]
    return states


def micro_batches(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Group row numbers so that rows × longest row ≤ `token_budget` (one row always fits), similar lengths together.

    Padding is small because rows are sorted by length first; every row is in exactly one group.
    """
    groups: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        longest = lengths[groups[-1][0]] if groups else 0
        if groups and (len(groups[-1]) + 1) * longest <= token_budget:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups
