"""The rows of a batch as one sequence: no padding, and what rows begin with alike is read once.

A chat template puts the same words before every prompt, several answers follow one prompt, and both sides of a
preference share a conversation. A state depends on the tokens up to it alone, so rows that agree up to a token agree
in its state, and one state serves them all, forward and backward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from jaxtyping import Int
from torch import Tensor

from harken.kernels.segments import Segment, SegmentBatches, Span, batches
from harken.kernels.shape_buckets import round_up

# A segment more costs about as much as reading this many tokens once more.
MIN_SHARED_PREFIX = 8
# Longer segments are cut: attention then skips what lies after a piece instead of masking it.
MAX_SEGMENT_LENGTH = 256

# Sequences from `BUCKETED_FROM` places on are filled up to a multiple of `BUCKET_STEP`.
BUCKETED_FROM, BUCKET_STEP = 512, 128


@dataclass(frozen=True)
class PackedSequence:
    """Rows of tokens as a model reads them: row r's token t stands at place `where[r, t]` of `tokens`, counted flat.

    `where` is as wide as the longest row, and 0 behind shorter ones. Without `segments` rows lie side by side, padded
    on the right, where no token of theirs can see it: attention is causal.
    """

    tokens: Int[Tensor, "lines length"]
    positions: Int[Tensor, "lines length"]
    where: Int[Tensor, "rows time"]
    segments: list[Segment] | None = None
    _batches: dict[tuple[int, int], SegmentBatches] = field(default_factory=dict, compare=False, repr=False)

    def batches(self, heads: int, groups: int) -> SegmentBatches:
        """How attention takes the segments; made once for all layers."""
        assert self.segments is not None
        if (heads, groups) not in self._batches:
            self._batches[heads, groups] = batches(self.segments, heads, groups)
        return self._batches[heads, groups]


def padded(rows: Sequence[Sequence[int]], pad_token: int) -> PackedSequence:
    """Every row a line of its own."""
    longest = max(len(row) for row in rows)
    tokens = torch.tensor([[*row, *[pad_token] * (longest - len(row))] for row in rows])
    where = torch.arange(tokens.numel()).view(tokens.shape)
    return PackedSequence(tokens, torch.arange(longest).expand(len(rows), -1), where)


def packed(rows: Sequence[Sequence[int]], *, share: bool = True) -> PackedSequence:
    """All rows, none of them empty, in one line. Without `share` every row is read by itself."""
    packing = _Packing(places=[[] for _ in rows])
    order = sorted(range(len(rows)), key=lambda row: tuple(rows[row])) if share else list(range(len(rows)))
    _pack_rows(packing, [tuple(row) for row in rows], order, 0, (), share)
    if len(packing.tokens) >= BUCKETED_FROM:
        _pad_to_bucket(packing)
    longest = max(len(places) for places in packing.places)
    return PackedSequence(
        torch.tensor([packing.tokens]),
        torch.tensor([packing.positions]),
        torch.tensor([places + [0] * (longest - len(places)) for places in packing.places]),
        packing.segments,
    )


def micro_batches(items: Sequence[Sequence[Sequence[int]]], token_budget: int) -> list[list[int]]:
    """Numbers of items, each some rows that stay together, in groups that take at most `token_budget` places packed
    (before a long sequence is filled up).

    One item always fits. Those that begin alike stand together; every item is in exactly one group.
    """
    groups: list[list[int]] = []
    taken = 0
    for item in sorted(range(len(items)), key=lambda i: (tuple(items[i][0]), i)):
        first = items[item][0]
        others = sum(_extra_tokens(before, row) for before, row in pairwise(items[item]))
        beside = _extra_tokens(items[groups[-1][-1]][0], first) if groups else 0
        if groups and taken + beside + others <= token_budget:
            groups[-1].append(item)
            taken += beside + others
        else:
            groups.append([item])
            taken = len(first) + others
    return groups


def _extra_tokens(before: Sequence[int], row: Sequence[int]) -> int:
    """How many places a row takes beside another, at most: agreement too short to share is counted twice."""
    return len(row) - max(_common_prefix(before, row) - MIN_SHARED_PREFIX + 1, 0)


@dataclass
class _Packing:
    """What is laid out so far: tokens with their positions, and of each row the places of its tokens."""

    segments: list[Segment] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    places: list[list[int]] = field(default_factory=list)


def _pack_rows(
    packing: _Packing,
    rows: Sequence[Sequence[int]],
    order: Sequence[int],
    depth: int,
    before: tuple[Span, ...],
    share: bool,
) -> None:
    """The rows of `order`, which are sorted and agree in their first `depth` tokens, from there on."""
    groups: list[list[int]] = []
    for row in order:
        near = (
            bool(groups)
            and share
            and _common_prefix(rows[groups[-1][-1]], rows[row]) - depth >= MIN_SHARED_PREFIX
        )
        if near or (groups and rows[groups[-1][-1]] == rows[row] and share):
            groups[-1].append(row)
        else:
            groups.append([row])
    for group in groups:
        # Sorted rows agree pairwise at least as far as the first with the last.
        until = _common_prefix(rows[group[0]], rows[group[-1]])
        seen = _add_segments(packing, rows[group[0]], group, depth, until, before)
        rest = [row for row in group if len(rows[row]) > until]
        if rest:
            _pack_rows(packing, rows, rest, until, seen, share)


def _add_segments(
    packing: _Packing,
    tokens: Sequence[int],
    group: Sequence[int],
    depth: int,
    until: int,
    before: tuple[Span, ...],
) -> tuple[Span, ...]:
    """Tokens [depth, until) for all rows of the group. Returns what their successors see."""
    for start in range(depth, until, MAX_SEGMENT_LENGTH):
        end = min(start + MAX_SEGMENT_LENGTH, until)
        place = len(packing.tokens)
        packing.tokens += tokens[start:end]
        packing.positions += range(start, end)
        here = (place, place + end - start)
        packing.segments.append(Segment(*here, before))
        for row in group:
            packing.places[row] += range(*here)
        joins = before and before[-1][1] == place
        before = (*before[:-1], (before[-1][0], here[1])) if joins else (*before, here)
    return before


def _pad_to_bucket(packing: _Packing) -> None:
    """Pad the sequence to a bucketed size, with a last segment that no row has (`kernels.shape_buckets`)."""
    place = len(packing.tokens)
    missing = round_up(place, BUCKET_STEP) - place
    if missing:
        packing.segments.append(Segment(place, place + missing, ()))
        packing.tokens += [packing.tokens[0]] * missing
        packing.positions += range(missing)


def _common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two rows begin with alike."""
    for place, (here, there) in enumerate(zip(one, other, strict=False)):
        if here != there:
            return place
    return min(len(one), len(other))
