"""Score with a reward model of this project: pairs as in training, responses to any prompt, and frozen features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from harken.batches import collate
from harken.card.scored import RewardArray
from harken.data.chat import RenderFailure
from harken.data.parse import Pair
from harken.models.roles import RewardModel
from harken.records import Prompt

CARD_BATCH_TOKENS = 8192
"""Tokens in one forward."""


class ModelScorer:
    """Score with a reward model. `max_length`: tokens of prompt and response in its training."""

    def __init__(
        self,
        model: RewardModel,
        max_length: int,
        keep_special_tokens: bool | list[str] | None = None,
        batch_tokens: int = CARD_BATCH_TOKENS,
    ) -> None:
        self.model, self.max_length, self.batch_tokens = model, max_length, batch_tokens
        self.renderer = model.renderer(keep_special_tokens)

    def score_pairs(self, pairs: Sequence[Pair]) -> RewardArray:
        """Return the raw rewards of chosen and rejected, [pairs, 2]; NaN for a pair that does not fit."""
        encoded = [self.renderer.encode_preference(pair, self.max_length) for pair in pairs]
        sides = [
            [None, None] if isinstance(row, RenderFailure) else [row.chosen_tokens, row.rejected_tokens]
            for row in encoded
        ]
        return self.score_tokens([side for row in sides for side in row]).reshape(-1, 2)

    def score_responses(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> RewardArray:
        """Return the raw reward of each response; NaN for one that does not fit."""
        return self.score_tokens(
            [self._encode(prompt, text) for prompt, text in zip(prompts, responses, strict=True)]
        )

    def score_tokens(
        self, sequences: Sequence[Sequence[int] | None], batch_tokens: int | None = None
    ) -> RewardArray:
        """Return the raw rewards of token sequences, NaN for None. Sequences are packed up to `batch_tokens`."""
        encoded = [tuple(sequence) for sequence in sequences if sequence is not None]
        scores = iter(self.model.raw_scores(encoded, batch_tokens or self.batch_tokens))
        return np.array(
            [np.nan if sequence is None else next(scores) for sequence in sequences], dtype=np.float64
        )

    def encode_pair_sides(self, pairs: Sequence[Pair]) -> list[tuple[int, ...]]:
        """Return the token sequences of both sides of the pairs that fit."""
        encoded = [self.renderer.encode_preference(pair, self.max_length) for pair in pairs]
        rows = [row for row in encoded if not isinstance(row, RenderFailure)]
        return [side for row in rows for side in (row.chosen_tokens, row.rejected_tokens)]

    @torch.no_grad()
    def features(self, pairs: Sequence[Pair]) -> RewardArray:
        """Return the base's pooled hidden state of chosen minus that of rejected, [pairs, hidden]; NaN where unfit."""
        encoded = [self.renderer.encode_preference(pair, self.max_length) for pair in pairs]
        differences = np.full((len(pairs), self.model.backbone.hidden_size), np.nan)
        rows = [(i, row) for i, row in enumerate(encoded) if not isinstance(row, RenderFailure)]
        items = [(row.chosen_tokens, row.rejected_tokens) for _, row in rows]
        for group in self.model.backbone.micro_batches(items, self.batch_tokens):
            sides = [items[i][0] for i in group] + [items[i][1] for i in group]
            batch = collate(sides, [[False] * len(side) for side in sides], self.model.pad_token)
            batch = batch.to(self.model.backbone.device)
            with self.model.backbone.role(None):
                hidden = self.model.backbone.hidden(batch)
                pooled = self.model.backbone.pooled(hidden, batch).float().cpu().numpy()
            differences[[rows[i][0] for i in group]] = pooled[: len(group)] - pooled[len(group) :]
        return differences

    def _encode(self, prompt: Prompt, response: str) -> list[int] | None:
        tokens = self.renderer.encode_response(response)
        fitted = self.renderer.try_fit_prompt(prompt, self.max_length - len(tokens))
        return None if isinstance(fitted, RenderFailure) else [*fitted, *tokens]
