"""How long a stage's rows are: a sample of its own data as tokens, or the limits where there are none to read."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from harken.batches import micro_batches
from harken.config.base import DataConfig
from harken.data import sources
from harken.data.chat import Renderer, RenderFailure
from harken.errors import UserError
from harken.kernels import packing
from harken.models.find_tokenizer import tokenizer_of
from harken.models.resolve import ModelSource
from harken.records import Demonstration, Preference, Prompt, TokenPair
from harken.seeds import permutation

Item = Sequence[Sequence[int]]
"""Rows of tokens that stay in one pass."""
SAMPLE_ROWS = 400
"""Rows whose tokens are counted."""
MicroBatch = tuple[float, int]
"""A micro-batch: rows, and tokens of the longest of them; times each other, the tokens that are read. Rows are a
fraction where they are packed, and where lengths are only limits."""
SAMPLED_BATCHES = 32
"""Batches that are put together from the sample, to see how full and how padded they are."""


@dataclass(frozen=True)
class PlannedRows:
    """Some rows as tokens, and how many rows there are in all."""

    items: tuple[Item, ...]
    """Tokens: of a pair both its sides, of a prompt the prompt alone. Where none can be read, rows of zeros."""
    target_tokens: tuple[int, ...]
    """Tokens of each that a supervised loss falls on."""
    train: int | None
    """Rows to train on; None where the data cannot be read."""
    held_out: int
    seed: int
    packs: bool
    """Whether passes pack them (see `kernels.packing`)."""
    note: str = ""
    """Why lengths are limits; "" when they were counted."""

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of each; of a pair those of its longer side."""
        return tuple(max(len(row) for row in item) for item in self.items)

    @property
    def lengths_known(self) -> bool:
        """Whether lengths are those of rows, and not only what rows may be."""
        return not self.note

    def batches(self, size: int) -> list[list[Item]]:
        """The rows of some optimiser steps."""
        items = self.items
        size = min(size, self.train or size)
        batches = []
        for number in range(SAMPLED_BATCHES):
            order: list[int] = []
            while len(order) < size:
                order += permutation(len(items), self.seed, "plan", number, len(order))
            batches.append([items[i] for i in order[:size]])
        return batches

    def with_responses(self, prompts: int, samples: int, tokens: int) -> list[list[Item]]:
        """The rollouts of some updates: each prompt with `samples` answers of so many tokens, no two alike."""
        repeated = [[item[0] for item in batch for _ in range(samples)] for batch in self.batches(prompts)]
        return [
            [((*prompt, *[-1 - place] * tokens),) for place, prompt in enumerate(batch)] for batch in repeated
        ]

    def micro_batches(self, items: list[Item], tokens: int) -> list[MicroBatch]:
        """Micro-batches of these items.

        Where lengths are only limits every micro-batch is as full as `tokens` allows: shorter rows would fill it.
        """
        sides = len(items[0])
        longest_of = [max(len(row) for row in item) for item in items]
        if self.lengths_known and self.packs:
            made = [[items[i] for i in group] for group in packing.packed_micro_batches(items, tokens)]
            return [self._packed([row for item in group for row in item]) for group in made]
        if self.lengths_known:
            padded = micro_batches(longest_of, max(tokens // sides, 1))
            return [(sides * len(group), max(longest_of[i] for i in group)) for group in padded]
        longest, left = max(longest_of), float(sides * len(items))
        size = min(max(tokens / longest, sides), left)
        full, rest = divmod(left, size)
        return [(size, longest)] * int(full) + ([(rest, longest)] if rest else [])

    def prefill_tokens(self, prompts: int, at_once: int) -> float:
        """Tokens that go through the model when so many prompts are read, `at_once` of them together."""
        batches = self.batches(min(prompts, at_once))
        groups = [group for batch in batches for group in self.micro_batches(batch, sys.maxsize)]
        weight_dtype = sum(rows * longest for rows, longest in groups) / len(batches)
        return weight_dtype * prompts / len(batches[0])

    def _packed(self, rows: list[Sequence[int]]) -> MicroBatch:
        """Rows of the longest one that are worth what is really read."""
        longest = max(len(row) for row in rows)
        return packing.pack_rows(rows).tokens.numel() / longest, longest


def plan_rows(
    kind: str, data: DataConfig, source: ModelSource | None, seed: int, *, packs: bool
) -> PlannedRows:
    """The rows of a stage of this kind (`sft`, `reward` or `ppo`). Every length is `max_length` where none is known."""
    if source is None:
        return _rows_of_max_length(kind, data, seed, "no tokenizer to count with")
    try:
        renderer = Renderer(tokenizer_of(source), data.keep_special_tokens)
        train, held_out = _read(kind, data, seed)
    except UserError as error:
        return _rows_of_max_length(kind, data, seed, str(error))
    order = permutation(len(train), seed, "plan", "sample")[:SAMPLE_ROWS]
    counted = [item for i in order if (item := _tokens(renderer, train[i], data.max_length)) is not None]
    if not counted:
        return _rows_of_max_length(kind, data, seed, f"not one of {len(order)} rows fits max_length")
    fitting = len(counted) / len(order)
    return PlannedRows(
        tuple(item for item, _ in counted),
        tuple(answer for _, answer in counted),
        round(len(train) * fitting),
        round(len(held_out) * fitting),
        seed,
        packs,
    )


def _rows_of_max_length(kind: str, data: DataConfig, seed: int, why: str) -> PlannedRows:
    note = f"every row is taken as {data.max_length} tokens long ({why})"
    item = ([0] * data.max_length,) * (2 if kind == "reward" else 1)
    return PlannedRows((item,), (data.max_length,), data.limit, data.eval_limit or 0, seed, False, note)


def _read(
    kind: str, data: DataConfig, seed: int
) -> tuple[Sequence[Demonstration | Preference | TokenPair | Prompt], Sequence[object]]:
    if kind == "sft":
        return sources.load_split(data, sources.load_demonstrations, seed)[:2]
    if kind == "reward":
        return sources.load_split(data, sources.load_preferences, seed)[:2]
    return sources.load_split(data, sources.load_prompts, seed)[:2]


def _tokens(
    renderer: Renderer, row: Demonstration | Preference | TokenPair | Prompt, limit: int
) -> tuple[Item, int] | None:
    """A row as its loader would encode it, and how many tokens count; None for one it would leave out."""
    if isinstance(row, Prompt):
        fitted = renderer.try_fit_prompt(row, limit)
        return None if isinstance(fitted, RenderFailure) else ((fitted,), 0)
    if isinstance(row, Demonstration):
        shown = renderer.encode_demonstration(row, limit)
        return None if isinstance(shown, RenderFailure) else ((shown.tokens,), sum(shown.response_mask))
    pair = renderer.encode_preference(row, limit)
    return None if isinstance(pair, RenderFailure) else ((pair.chosen_tokens, pair.rejected_tokens), 0)
