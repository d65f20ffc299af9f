"""Pack the rows of a batch into one sequence without padding, with shared prefixes computed once.

A chat template puts the same tokens before every prompt, several responses follow one prompt, and both sides of a
preference share a conversation. Attention is causal, so the hidden state of a token depends on its prefix alone: rows
with the same prefix share its hidden states, forward and backward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from jaxtyping import Int
from torch import Tensor

from harken.kernels.segments import Segment, SegmentBatches, Span, batch_segments
from harken.kernels.shape_buckets import round_up

# Another segment costs about as much as computing this many tokens again.
MIN_SHARED_PREFIX = 8
# Longer segments are split, so that attention skips later tokens instead of masking them.
MAX_SEGMENT_LENGTH = 256

# Sequences of `BUCKETED_FROM` tokens or more are padded to a multiple of `BUCKET_STEP`.
BUCKETED_FROM, BUCKET_STEP = 512, 128


@dataclass(frozen=True)
class PackedSequence:
    """The rows of a batch as model inputs: token t of row r is at index `token_index[r, t]` of the flattened `tokens`.

    `token_index` is as wide as the longest row, and 0 behind shorter ones. Without `segments` this is a plain batch
    padded on the right, which needs no mask because attention is causal.
    """

    tokens: Int[Tensor, "lines length"]
    positions: Int[Tensor, "lines length"]
    token_index: Int[Tensor, "rows time"]
    segments: list[Segment] | None = None
    _batches: dict[tuple[int, int], SegmentBatches] = field(default_factory=dict, compare=False, repr=False)

    def segment_batches(self, heads: int, groups: int) -> SegmentBatches:
        """Return the batches of segments for attention; they are computed once for all layers."""
        assert self.segments is not None
        if (heads, groups) not in self._batches:
            self._batches[heads, groups] = batch_segments(self.segments, heads, groups)
        return self._batches[heads, groups]


def pad_rows(rows: Sequence[Sequence[int]], pad_token: int) -> PackedSequence:
    """Return a batch of one row per sequence, padded on the right."""
    longest = max(len(row) for row in rows)
    tokens = torch.tensor([[*row, *[pad_token] * (longest - len(row))] for row in rows])
    token_index = torch.arange(tokens.numel()).view(tokens.shape)
    return PackedSequence(tokens, torch.arange(longest).expand(len(rows), -1), token_index)


def pack_rows(rows: Sequence[Sequence[int]], *, share: bool = True) -> PackedSequence:
    """Pack non-empty rows into one sequence. Without `share`, prefixes are not shared."""
    packing = _Packing(indices=[[] for _ in rows])
    order = sorted(range(len(rows)), key=lambda row: tuple(rows[row])) if share else list(range(len(rows)))
    _pack_group(packing, [tuple(row) for row in rows], order, 0, (), share)
    if len(packing.tokens) >= BUCKETED_FROM:
        _pad_to_bucket(packing)
    longest = max(len(indices) for indices in packing.indices)
    return PackedSequence(
        torch.tensor([packing.tokens]),
        torch.tensor([packing.positions]),
        torch.tensor([indices + [0] * (longest - len(indices)) for indices in packing.indices]),
        packing.segments,
    )


def packed_micro_batches(items: Sequence[Sequence[Sequence[int]]], token_budget: int) -> list[list[int]]:
    """Split items into micro-batches of at most `token_budget` packed tokens, before padding to a bucket.

    An item is a list of rows that stay together. Returns item indices; items with a common prefix are adjacent. An
    item above the budget gets a micro-batch of its own.
    """
    groups: list[list[int]] = []
    packed_tokens = 0
    for item in sorted(range(len(items)), key=lambda i: (tuple(items[i][0]), i)):
        first = items[item][0]
        sibling_tokens = sum(_extra_tokens(previous, row) for previous, row in pairwise(items[item]))
        added = _extra_tokens(items[groups[-1][-1]][0], first) if groups else 0
        if groups and packed_tokens + added + sibling_tokens <= token_budget:
            groups[-1].append(item)
            packed_tokens += added + sibling_tokens
        else:
            groups.append([item])
            packed_tokens = len(first) + sibling_tokens
    return groups


def _extra_tokens(previous: Sequence[int], row: Sequence[int]) -> int:
    """Return an upper bound on the tokens a row adds after `previous`: a short common prefix is not shared."""
    return len(row) - max(_common_prefix(previous, row) - MIN_SHARED_PREFIX + 1, 0)


@dataclass
class _Packing:
    """The packed sequence so far, and for each row the indices of its tokens in it."""

    segments: list[Segment] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    indices: list[list[int]] = field(default_factory=list)


def _pack_group(
    packing: _Packing,
    rows: Sequence[Sequence[int]],
    order: Sequence[int],
    depth: int,
    prefix: tuple[Span, ...],
    share: bool,
) -> None:
    """Pack the tokens from `depth` on of the rows of `order`: sorted, with their first `depth` tokens in common."""
    groups: list[list[int]] = []
    for row in order:
        shares = (
            bool(groups)
            and share
            and _common_prefix(rows[groups[-1][-1]], rows[row]) - depth >= MIN_SHARED_PREFIX
        )
        if shares or (groups and rows[groups[-1][-1]] == rows[row] and share):
            groups[-1].append(row)
        else:
            groups.append([row])
    for group in groups:
        # The common prefix of sorted rows is that of the first and the last.
        end = _common_prefix(rows[group[0]], rows[group[-1]])
        visible = _add_segments(packing, rows[group[0]], group, depth, end, prefix)
        longer = [row for row in group if len(rows[row]) > end]
        if longer:
            _pack_group(packing, rows, longer, end, visible, share)


def _add_segments(
    packing: _Packing,
    tokens: Sequence[int],
    group: Sequence[int],
    depth: int,
    stop: int,
    visible: tuple[Span, ...],
) -> tuple[Span, ...]:
    """Add segments for tokens [depth, stop) of all rows of a group. Returns the spans that later tokens attend to."""
    for start in range(depth, stop, MAX_SEGMENT_LENGTH):
        end = min(start + MAX_SEGMENT_LENGTH, stop)
        index = len(packing.tokens)
        packing.tokens += tokens[start:end]
        packing.positions += range(start, end)
        span = (index, index + end - start)
        packing.segments.append(Segment(*span, visible))
        for row in group:
            packing.indices[row] += range(*span)
        joins = visible and visible[-1][1] == index
        visible = (*visible[:-1], (visible[-1][0], span[1])) if joins else (*visible, span)
    return visible


def _pad_to_bucket(packing: _Packing) -> None:
    """Pad the sequence to a bucketed size with a last segment that no row uses (`kernels.shape_buckets`)."""
    index = len(packing.tokens)
    missing = round_up(index, BUCKET_STEP) - index
    if missing:
        packing.segments.append(Segment(index, index + missing, ()))
        packing.tokens += [packing.tokens[0]] * missing
        packing.positions += range(missing)


def _common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """Return the length of the common prefix of two rows."""
    for index, (left, right) in enumerate(zip(first, second, strict=False)):
        if left != right:
            return index
    return min(len(first), len(second))
