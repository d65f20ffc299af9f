"""Estimate the lengths of a stage's rows from a sample of its data, or use max_length if the data cannot be read."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from harken.batches import Item, micro_batches
from harken.config.base import DataConfig
from harken.data import sources
from harken.data.chat import Renderer, RenderFailure
from harken.data.token_pairs import prompt_length
from harken.errors import UserError
from harken.kernels import packing
from harken.models.find_tokenizer import tokenizer_of
from harken.models.resolve import ModelSource
from harken.records import Demonstration, Preference, Prompt, TokenPair
from harken.seeds import permutation

MicroBatch = tuple[float, int]
"""Number of rows and tokens of the longest row; their product is the number of processed tokens. The number of rows is
fractional if rows are packed, or if lengths are only upper bounds."""
SAMPLED_BATCHES = 32
"""Number of batches drawn from the sample to estimate padding."""


@dataclass(frozen=True)
class PlannedRows:
    """A sample of rows as tokens, and the total number of rows."""

    items: tuple[Item, ...]
    """Tokens: both sides of a pair, only the prompt for PPO. Rows of zeros if the data cannot be read."""
    target_tokens: tuple[int, ...]
    """Number of response tokens per item; the losses of SFT and DPO are computed on them."""
    train: int | None
    """Number of training rows; None if the data cannot be read."""
    held_out: int
    seed: int
    packs: bool
    """Whether passes pack rows (see `kernels.packing`)."""
    note: str = ""
    """Why lengths are only upper bounds; "" if they were counted."""

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of each item; for a pair, of its longer side."""
        return tuple(max(len(row) for row in item) for item in self.items)

    @property
    def lengths_known(self) -> bool:
        """Whether lengths were counted, and are not only upper bounds."""
        return not self.note

    def batches(self, size: int) -> list[list[Item]]:
        """Draw the rows of `SAMPLED_BATCHES` optimiser steps."""
        items = self.items
        size = min(size, self.train or size)
        batches = []
        for index in range(SAMPLED_BATCHES):
            order: list[int] = []
            while len(order) < size:
                order += permutation(len(items), self.seed, "plan", index, len(order))
            batches.append([items[i] for i in order[:size]])
        return batches

    def with_responses(self, prompts: int, samples: int, tokens: int) -> list[list[Item]]:
        """Draw the rollouts of sampled updates: each prompt with `samples` distinct responses of `tokens` tokens."""
        repeated = [[item[0] for item in batch for _ in range(samples)] for batch in self.batches(prompts)]
        return [
            [((*prompt, *[-1 - place] * tokens),) for place, prompt in enumerate(batch)] for batch in repeated
        ]

    def micro_batches(self, items: list[Item], tokens: int) -> list[MicroBatch]:
        """Split items into micro-batches of at most `tokens` tokens.

        If lengths are only upper bounds, every micro-batch is assumed full, because shorter rows would fill it.
        """
        sides = len(items[0])
        longest_of = [max(len(row) for row in item) for item in items]
        if self.lengths_known and self.packs:
            groups = [[items[i] for i in group] for group in packing.packed_micro_batches(items, tokens)]
            return [self._packed([row for item in group for row in item]) for group in groups]
        if self.lengths_known:
            padded = micro_batches(longest_of, max(tokens // sides, 1))
            return [(sides * len(group), max(longest_of[i] for i in group)) for group in padded]
        longest, rows = max(longest_of), float(sides * len(items))
        size = min(max(tokens / longest, sides), rows)
        full, partial = divmod(rows, size)
        return [(size, longest)] * int(full) + ([(partial, longest)] if partial else [])

    def prefill_tokens(self, prompts: int, at_once: int) -> float:
        """Count the tokens of prefilling `prompts` prompts, `at_once` at a time."""
        batches = self.batches(min(prompts, at_once))
        groups = [group for batch in batches for group in self.micro_batches(batch, sys.maxsize)]
        tokens = sum(rows * longest for rows, longest in groups) / len(batches)
        return tokens * prompts / len(batches[0])

    def _packed(self, rows: list[Sequence[int]]) -> MicroBatch:
        """Pack rows. The number of rows is the number of packed tokens over the longest row."""
        longest = max(len(row) for row in rows)
        return packing.pack_rows(rows).tokens.numel() / longest, longest


def plan_rows(
    kind: str, data: DataConfig, source: ModelSource | None, seed: int, *, packs: bool
) -> PlannedRows:
    """Sample the rows of a stage by its training type. Unknown lengths become `max_length`."""
    if source is None:
        return _rows_of_max_length(kind, data, seed, "no tokenizer to count tokens with")
    try:
        renderer = Renderer(tokenizer_of(source), data.keep_special_tokens)
        train, held_out = _read(kind, data, seed)
    except UserError as error:
        return _rows_of_max_length(kind, data, seed, str(error))
    order = permutation(len(train), seed, "plan", "sample")[: sources.SAMPLE_ROWS]
    counted = [item for i in order if (item := _tokens(renderer, train[i], data.max_length)) is not None]
    if not counted:
        return _rows_of_max_length(kind, data, seed, f"none of {len(order)} rows fits max_length")
    kept_share = len(counted) / len(order)
    return PlannedRows(
        tuple(item for item, _ in counted),
        tuple(targets for _, targets in counted),
        round(len(train) * kept_share),
        round(len(held_out) * kept_share),
        seed,
        packs,
    )


def _rows_of_max_length(kind: str, data: DataConfig, seed: int, reason: str) -> PlannedRows:
    note = f"every row is assumed to have {data.max_length} tokens ({reason})"
    item = ([0] * data.max_length,) * (2 if kind in ("reward", "dpo") else 1)
    return PlannedRows((item,), (data.max_length,), data.limit, data.eval_limit or 0, seed, False, note)


def _read(
    kind: str, data: DataConfig, seed: int
) -> tuple[Sequence[Demonstration | Preference | TokenPair | Prompt], Sequence[object]]:
    if kind == "sft":
        return sources.load_split(data, sources.load_demonstrations, seed)[:2]
    if kind == "classifier":
        return sources.load_split(data, sources.load_classified, seed)[:2]
    if kind in ("reward", "dpo"):
        return sources.load_split(data, sources.load_preferences, seed)[:2]
    return sources.load_split(data, sources.load_prompts, seed)[:2]


def _tokens(
    renderer: Renderer, row: Demonstration | Preference | TokenPair | Prompt, limit: int
) -> tuple[Item, int] | None:
    """Encode a row as its loader does, and count its target tokens; None for a row that the loader drops."""
    if isinstance(row, Prompt):
        fitted = renderer.try_fit_prompt(row, limit)
        return None if isinstance(fitted, RenderFailure) else ((fitted,), 0)
    if isinstance(row, Demonstration):
        encoded = renderer.encode_demonstration(row, limit)
        return None if isinstance(encoded, RenderFailure) else ((encoded.tokens,), sum(encoded.response_mask))
    pair = renderer.encode_preference(row, limit)
    if isinstance(pair, RenderFailure):
        return None
    sides = pair.chosen_tokens, pair.rejected_tokens
    return sides, sum(map(len, sides)) - 2 * prompt_length(pair)
