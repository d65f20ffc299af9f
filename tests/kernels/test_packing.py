"""Packed rows: every token stands where `where` says, and sees exactly its own row up to itself."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_backbone

from harken.batches import collate
from harken.config import LoraSettings
from harken.kernels.packing import (
    BUCKET_STEP,
    BUCKETED_FROM,
    MAX_SEGMENT_LENGTH,
    MIN_SHARED_PREFIX,
    PackedSequence,
    pack_rows,
    packed_micro_batches,
    pad_rows,
)

# Two letters and long stretches of one of them, so that beginnings agree often, at all depths.
ROWS = st.lists(
    st.lists(st.sampled_from([1, 2]), min_size=1, max_size=4).map(
        lambda runs: [t for t in runs for _ in range(6)]
    ),
    min_size=1,
    max_size=8,
)


def seen_by(layout: PackedSequence, place: int) -> list[int]:
    """The tokens that a place attends to, in order."""
    assert layout.segments is not None
    [segment] = [s for s in layout.segments if s.start <= place < s.end]
    spans = [*segment.before, (segment.start, place + 1)]
    return [int(layout.tokens[0, p]) for start, end in spans for p in range(start, end)]


@settings(deadline=None)
@given(ROWS, st.booleans())
def test_a_token_sees_its_row_and_nothing_else(rows: list[list[int]], share: bool) -> None:
    layout = pack_rows(rows, share=share)
    for places, row in zip(layout.token_index.tolist(), rows, strict=True):
        for time, place in enumerate(places[: len(row)]):
            assert seen_by(layout, place) == row[: time + 1]
            assert int(layout.positions[0, place]) == time


@settings(deadline=None)
@given(ROWS)
def test_a_beginning_is_read_once(rows: list[list[int]]) -> None:
    """Two rows that agree in enough tokens use the same places for them, however many rows stand between."""
    layout = pack_rows(rows)
    for one, row in enumerate(rows):
        for other in range(one):
            agreed = 0
            while agreed < min(len(row), len(rows[other])) and row[agreed] == rows[other][agreed]:
                agreed += 1
            shared = int((layout.token_index[one, :agreed] == layout.token_index[other, :agreed]).sum())
            assert agreed - shared < MIN_SHARED_PREFIX
            assert row != rows[other] or shared == len(row)


ITEMS = ROWS.flatmap(
    lambda rows: st.integers(1, 2).map(lambda n: [rows[i : i + n] for i in range(0, len(rows), n)])
)


@settings(deadline=None)
@given(ITEMS, st.integers(1, 120))
def test_every_item_is_in_exactly_one_micro_batch(items: list[list[list[int]]], budget: int) -> None:
    groups = packed_micro_batches(items, budget)
    assert sorted(item for group in groups for item in group) == list(range(len(items)))
    assert all(groups)


@settings(deadline=None)
@given(ITEMS, st.integers(1, 120))
def test_a_micro_batch_keeps_the_budget(items: list[list[list[int]]], budget: int) -> None:
    """Counted as it is laid out; an item larger than the budget stands alone."""
    for group in packed_micro_batches(items, budget):
        rows = [row for item in group for row in items[item]]
        assert pack_rows(rows).tokens.numel() <= budget or len(group) == 1


def test_responses_to_one_prompt_are_adjacent() -> None:
    """Four responses to each of two prompts of 60 tokens, in turns: a micro-batch for each prompt."""
    items = [[[*([prompt] * 60), 10 + response, 11]] for response in range(4) for prompt in (1, 2)]
    assert packed_micro_batches(items, 100) == [[0, 2, 4, 6], [1, 3, 5, 7]]


def test_both_sides_of_a_pair_count() -> None:
    items = [[[2 * pair] * 20, [2 * pair + 1] * 20] for pair in range(3)]
    assert packed_micro_batches(items, 80) == [[0, 1], [2]]
    assert packed_micro_batches(items, 79) == [[0], [1], [2]]


def test_without_sharing_no_prefix_is_shared() -> None:
    rows = [[1] * 20, [1] * 20]
    assert pack_rows(rows).tokens.shape == (1, 20)
    assert pack_rows(rows, share=False).tokens.shape == (1, 40)


def test_long_rows_are_split_into_segments() -> None:
    layout = pack_rows([list(range(2 * MAX_SEGMENT_LENGTH + 5))])
    assert layout.segments is not None
    assert [len(s) for s in layout.segments[:3]] == [MAX_SEGMENT_LENGTH, MAX_SEGMENT_LENGTH, 5]
    assert layout.segments[2].before == ((0, 2 * MAX_SEGMENT_LENGTH),)


def test_a_long_sequence_is_filled_up_with_what_no_row_has() -> None:
    layout = pack_rows([list(range(BUCKETED_FROM + 5))])
    assert layout.segments is not None
    assert layout.tokens.shape == layout.positions.shape == (1, BUCKETED_FROM + BUCKET_STEP)
    assert layout.segments[-1].spans == ((BUCKETED_FROM + 5, BUCKETED_FROM + BUCKET_STEP),)
    assert int(layout.token_index.max()) == BUCKETED_FROM + 4
    assert pack_rows([list(range(BUCKETED_FROM))]).tokens.shape == (1, BUCKETED_FROM)


def test_padded_rows_lie_side_by_side() -> None:
    layout = pad_rows([[5, 6, 7], [8]], 0)
    assert layout.tokens.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert layout.token_index.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert layout.segments is None


def test_dropout_masks_differ_between_rows() -> None:
    """Rows that agree share their states; under dropout they do not, or their noise would be one."""
    backbone = tiny_backbone()
    backbone.add_adapter("policy", LoraSettings(dropout=0.5), 0)
    for name, parameter in backbone.adapter_parameters("policy").items():
        torch.nn.init.normal_(parameter, std=0.5) if "lora_B" in name else None
    batch = collate([list(range(3, 23))] * 2, [[True] * 20] * 2, 0)
    with backbone.role("policy"), torch.no_grad():
        alike = backbone.hidden(batch)
        backbone.set_adapter_dropout(True)
        noisy = backbone.hidden(batch)
    assert torch.equal(alike[0], alike[1])
    assert not torch.allclose(noisy[0], noisy[1])
