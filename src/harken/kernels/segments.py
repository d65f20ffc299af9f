"""What sees what in a packed sequence, and which parts of it attention can take in one multiplication.

A segment is a stretch that one or more rows own; its tokens see what their rows began with and what precedes them
inside. One multiplication for each is a few thousand numbers under a fixed price, so segments of like size are filled
up to the same one and go together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from harken.kernels.shape_buckets import round_up

SIZE_STEP = 32
"""What the sizes of a multiplication are rounded up to."""

MAX_BATCH = 8
"""Segments in one matmul, at most; fewer are a power of two, so that sizes recur (`kernels.shape_buckets`)."""

MAX_WEIGHTS = 1 << 17
"""Weights a head has in one multiplication of several segments, at most: more would leave the processor's cache."""

MAX_PADDING = 1 << 14
"""Weights a head may have in vain for one multiplication less: computing them costs as much as its fixed price."""

Span = tuple[int, int]


@dataclass(frozen=True)
class Segment:
    """Tokens [start, end) of the sequence. They see the spans in `before`, and what precedes them inside."""

    start: int
    end: int
    before: tuple[Span, ...]

    def __len__(self) -> int:
        return self.end - self.start

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """All that its last token sees, in the order of the row; neighbours are one span."""
        if self.before and self.before[-1][1] == self.start:
            return (*self.before[:-1], (self.before[-1][0], self.end))
        return (*self.before, (self.start, self.end))

    @cached_property
    def visible(self) -> int:
        """How many tokens its last one sees."""
        return sum(end - start for start, end in self.spans)


@dataclass(frozen=True)
class SegmentBatch:
    """Segments that attention takes together, with `heads` heads in `groups` groups.

    A row is a head of a place, counted flat: p × heads + h of queries, p × groups + g of keys and values. Fillers are
    rows of place 0, which no real query sees and whose own results nobody reads.
    """

    queries: Int[Tensor, " queries"]
    """Rows as [segments, heads, length]."""
    keys: Int[Tensor, " keys"]
    """Rows as [segments, groups, visible]."""
    padding: Int[Tensor, " fillers"]
    """Which of `queries` are none."""
    mask: Float[Tensor, "segments 1 length visible"]
    """0 where a query sees a key, −inf elsewhere."""
    began: int
    """The number of its first query among those of all batches."""

    def head_masks(
        self, heads: int, groups: int, dtype: torch.dtype
    ) -> Float[Tensor, "products queries visible"]:
        """The mask of every head; heads of a group are queries of one product."""
        count, _, length, visible = self.mask.shape
        of_heads = self.mask.to(dtype)[:, :, None].expand(count, groups, heads // groups, length, visible)
        return of_heads.reshape(count * groups, -1, visible)


@dataclass(frozen=True)
class SegmentBatches:
    """All segments of a sequence."""

    parts: list[SegmentBatch]
    rows: int
    """Queries of all batches, fillers included."""
    back: Int[Tensor, " rows"]
    """Which query of all batches is the row of a place and head."""


def batches(segments: Sequence[Segment], heads: int, groups: int) -> SegmentBatches:
    """Every segment in one batch; together they cover the sequence."""
    places = sum(len(segment) for segment in segments)
    back = torch.zeros(places, heads, dtype=torch.long)
    parts, began = [], 0
    of_head, of_group = torch.arange(heads)[:, None], torch.arange(groups)[:, None]
    for bucket in _bucket(segments):
        length = round_up(max(len(segment) for segment in bucket), SIZE_STEP)
        visible = round_up(max(segment.visible for segment in bucket), SIZE_STEP)
        queries, keys = torch.zeros(len(bucket), length).long(), torch.zeros(len(bucket), visible).long()
        before = torch.tensor([segment.visible - len(segment) for segment in bucket])
        real = torch.arange(length) < torch.tensor([[len(segment)] for segment in bucket])
        for number, segment in enumerate(bucket):
            queries[number, : len(segment)] = torch.arange(segment.start, segment.end)
            keys[number, : segment.visible] = torch.cat([torch.arange(*span) for span in segment.spans])
            first = began + number * heads * length
            mine = torch.arange(len(segment))[:, None] + of_head.T * length
            back[segment.start : segment.end] = first + mine
        later = torch.arange(visible) > before[:, None, None] + torch.arange(length)[:, None]
        parts.append(
            SegmentBatch(
                (queries[:, None] * heads + of_head).flatten(),
                (keys[:, None] * groups + of_group).flatten(),
                (~real)[:, None].expand(-1, heads, -1).flatten().nonzero()[:, 0],
                torch.zeros(later.shape).masked_fill_(later, -torch.inf)[:, None],
                began,
            )
        )
        began += len(bucket) * heads * length
    return SegmentBatches(parts, began, back.flatten())


def _bucket(segments: Sequence[Segment]) -> Iterator[list[Segment]]:
    """Segments of like size, the largest first."""
    waiting: list[Segment] = []
    for segment in sorted(segments, key=lambda s: (-s.visible, -len(s), s.start)):
        if waiting and _padding_waste([*waiting, segment]) > MAX_PADDING:
            yield from _split(waiting)
            waiting = []
        waiting.append(segment)
    yield from _split(waiting)


def _split(segments: list[Segment]) -> Iterator[list[Segment]]:
    """In numbers that are powers of two."""
    while segments:
        count = min(MAX_BATCH, 1 << (len(segments).bit_length() - 1))
        while count > 1 and _attention_weights(segments[:count]) > MAX_WEIGHTS:
            count //= 2
        yield segments[:count]
        segments = segments[count:]


def _attention_weights(together: Sequence[Segment]) -> int:
    """How many weights a head has of segments in one multiplication."""
    longest, widest = max(map(len, together)), max(segment.visible for segment in together)
    return len(together) * round_up(longest, SIZE_STEP) * round_up(widest, SIZE_STEP)


def _padding_waste(together: Sequence[Segment]) -> int:
    """How many of them each would not have by itself."""
    return _attention_weights(together) - sum(_attention_weights([segment]) for segment in together)
