"""Segments of a packed sequence, and their batching for attention.

A segment is a run of tokens that belongs to one or more rows. Its tokens attend to the earlier segments of those rows
and to the tokens before them in the segment. One matmul per segment would be too small to pay for its launch, so
segments of similar size are padded to a common size and batched.
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
"""Query and key counts of a batched matmul are rounded up to a multiple of this."""

MAX_BATCH = 8
"""Maximum segments in one matmul. Smaller batches are a power of two, so that shapes recur
(`kernels.shape_buckets`)."""

MAX_BATCH_WEIGHTS = 1 << 17
"""Maximum attention weights per head in one batch of segments: more would not fit the processor's cache."""

MAX_PADDING = 1 << 14
"""Maximum attention weights per head spent on padding to save one matmul: they cost as much as its fixed overhead."""

Span = tuple[int, int]


@dataclass(frozen=True)
class Segment:
    """Tokens [start, end) of the packed sequence. They attend to the spans in `before` and, causally, to each other."""

    start: int
    end: int
    before: tuple[Span, ...]

    def __len__(self) -> int:
        return self.end - self.start

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """Return the spans its last token attends to, in the order of the row; adjacent spans are joined."""
        if self.before and self.before[-1][1] == self.start:
            return (*self.before[:-1], (self.before[-1][0], self.end))
        return (*self.before, (self.start, self.end))

    @cached_property
    def visible(self) -> int:
        """Return how many tokens its last token attends to."""
        return sum(end - start for start, end in self.spans)


@dataclass(frozen=True)
class SegmentBatch:
    """Segments whose attention is computed in one batched matmul.

    A query index is token × heads + head, a key index token × key-value heads + key-value head. Padding points at
    token 0; it is masked as a key, and its result as a query is discarded.
    """

    queries: Int[Tensor, " queries"]
    """Query indices, [segments, heads, length] flattened."""
    keys: Int[Tensor, " keys"]
    """Key indices, [segments, groups, visible] flattened."""
    padding: Int[Tensor, " padding"]
    """Mask of the entries of `queries` that are padding."""
    mask: Float[Tensor, "segments 1 length visible"]
    """Additive: 0 where a query attends to a key, −inf elsewhere."""
    first_query: int
    """Offset of its first query among the queries of all batches."""

    def head_masks(
        self, heads: int, groups: int, dtype: torch.dtype
    ) -> Float[Tensor, "products queries visible"]:
        """Return the mask per matmul; the heads of a key-value group are queries of the same matmul."""
        count, _, length, visible = self.mask.shape
        per_head = self.mask.to(dtype)[:, :, None].expand(count, groups, heads // groups, length, visible)
        return per_head.reshape(count * groups, -1, visible)


@dataclass(frozen=True)
class SegmentBatches:
    """All segments of a packed sequence, in batches."""

    batches: list[SegmentBatch]
    rows: int
    """Number of queries of all batches, with padding."""
    output_index: Int[Tensor, " rows"]
    """For each token and head, the index of its query among those of all batches."""


def batch_segments(segments: Sequence[Segment], heads: int, groups: int) -> SegmentBatches:
    """Assign every segment to a batch. The segments must cover the sequence."""
    tokens = sum(len(segment) for segment in segments)
    output_index = torch.zeros(tokens, heads, dtype=torch.long)
    batches, first_query = [], 0
    head_index, group_index = torch.arange(heads)[:, None], torch.arange(groups)[:, None]
    for bucket in _bucket(segments):
        length = round_up(max(len(segment) for segment in bucket), SIZE_STEP)
        visible = round_up(max(segment.visible for segment in bucket), SIZE_STEP)
        queries, keys = torch.zeros(len(bucket), length).long(), torch.zeros(len(bucket), visible).long()
        prefix_lengths = torch.tensor([segment.visible - len(segment) for segment in bucket])
        real = torch.arange(length) < torch.tensor([[len(segment)] for segment in bucket])
        for slot, segment in enumerate(bucket):
            queries[slot, : len(segment)] = torch.arange(segment.start, segment.end)
            keys[slot, : segment.visible] = torch.cat([torch.arange(*span) for span in segment.spans])
            first = first_query + slot * heads * length
            offsets = torch.arange(len(segment))[:, None] + head_index.T * length
            output_index[segment.start : segment.end] = first + offsets
        future = torch.arange(visible) > prefix_lengths[:, None, None] + torch.arange(length)[:, None]
        batches.append(
            SegmentBatch(
                (queries[:, None] * heads + head_index).flatten(),
                (keys[:, None] * groups + group_index).flatten(),
                (~real)[:, None].expand(-1, heads, -1).flatten().nonzero()[:, 0],
                torch.zeros(future.shape).masked_fill_(future, -torch.inf)[:, None],
                first_query,
            )
        )
        first_query += len(bucket) * heads * length
    return SegmentBatches(batches, first_query, output_index.flatten())


def _bucket(segments: Sequence[Segment]) -> Iterator[list[Segment]]:
    """Yield segments of similar size bucket, the largest first."""
    waiting: list[Segment] = []
    for segment in sorted(segments, key=lambda s: (-s.visible, -len(s), s.start)):
        if waiting and _padding_waste([*waiting, segment]) > MAX_PADDING:
            yield from _split(waiting)
            waiting = []
        waiting.append(segment)
    yield from _split(waiting)


def _split(segments: list[Segment]) -> Iterator[list[Segment]]:
    """Split into batches whose sizes are powers of two."""
    while segments:
        count = min(MAX_BATCH, 1 << (len(segments).bit_length() - 1))
        while count > 1 and _attention_weights(segments[:count]) > MAX_BATCH_WEIGHTS:
            count //= 2
        yield segments[:count]
        segments = segments[count:]


def _attention_weights(bucket: Sequence[Segment]) -> int:
    """Return the attention weights per head of these segments in one batch."""
    longest, widest = max(map(len, bucket)), max(segment.visible for segment in bucket)
    return len(bucket) * round_up(longest, SIZE_STEP) * round_up(widest, SIZE_STEP)


def _padding_waste(bucket: Sequence[Segment]) -> int:
    """Return how many of those weights are padding that separate matmuls would not have."""
    return _attention_weights(bucket) - sum(_attention_weights([segment]) for segment in bucket)
