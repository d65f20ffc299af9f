"""Which segments attention takes together, and that nothing is lost on the way."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harken.kernels import segments
from harken.kernels.packing import pack_rows
from harken.kernels.segments import MAX_BATCH, SIZE_STEP, Segment, batch_segments


def rows_of(*lengths: int) -> list[list[int]]:
    """Rows that share nothing."""
    return [list(range(1000 * number, 1000 * number + length)) for number, length in enumerate(lengths)]


def sizes(*lengths: int) -> list[tuple[int, int, int]]:
    """Segments, length and visible of every batch, for rows that share nothing."""
    layout = pack_rows(rows_of(*lengths), share=False)
    return [(len(p.mask), *p.mask.shape[2:]) for p in layout.segment_batches(2, 1).batches]


def test_segments_of_like_size_go_together_in_powers_of_two() -> None:
    assert sizes(*[20] * 13) == [(8, 32, 32), (4, 32, 32), (1, 32, 32)]
    assert MAX_BATCH == 8 and SIZE_STEP == 32


def test_fill_up_has_a_cost() -> None:
    """A row of 200 among short ones would make each of them 224 × 224."""
    assert sizes(200, 20, 20) == [(1, 224, 224), (2, 32, 32)]
    # 32 × 32 numbers in vain are less than a multiplication.
    assert sizes(60, 20) == [(2, 64, 64)]


def test_long_segments_stay_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "MAX_BATCH_WEIGHTS", 2 * 64 * 64)
    assert sizes(60, 60, 60, 60, 60) == [(2, 64, 64), (2, 64, 64), (1, 64, 64)]


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 2)), min_size=1, max_size=12),
    st.sampled_from([1, 3]),
)
def test_every_token_sees_what_its_row_holds_up_to_it(rows: list[tuple[int, int]], groups: int) -> None:
    """Rows with beginnings of 0, 9 or 18 shared tokens; every head of every place, from the batches alone."""
    heads = 2 * groups
    given = [
        [*range(9 * shared), *range(100 * n + 100, 100 * n + 100 + own)]
        for n, (own, shared) in enumerate(rows)
    ]
    layout = pack_rows(given)
    assert layout.segments is not None
    made = batch_segments(layout.segments, heads, groups)
    tokens = layout.tokens.flatten()
    queries, seen = torch.empty(made.rows, dtype=torch.long), [torch.empty(0)] * made.rows
    for part in made.batches:
        count, _, length, _ = part.mask.shape
        queries[part.first_query : part.first_query + len(part.queries)] = part.queries
        keys = part.keys.view(count, groups, -1)
        mask = part.head_masks(heads, groups, torch.float32).view(count, heads, length, -1)
        for s in range(count):
            for h in range(heads):
                group = h // (heads // groups)
                assert (keys[s, group] % groups == group).all()
                for t in range(length):
                    visible = keys[s, group][mask[s, h, t] == 0] // groups
                    seen[part.first_query + (s * heads + h) * length + t] = tokens[visible]
        assert not len(part.padding) or int(part.queries[part.padding].max()) < heads
    back = made.output_index.view(-1, heads)
    assert torch.equal(queries[made.output_index], torch.arange(len(tokens) * heads))
    for row, where in zip(given, layout.token_index.tolist(), strict=True):
        for end, place in enumerate(where[: len(row)]):
            for h in range(heads):
                assert seen[back[place, h]].tolist() == row[: end + 1]


def test_segments_may_come_in_any_order() -> None:
    """What they cover is what counts."""
    made = batch_segments([Segment(3, 5, ((0, 3),)), Segment(0, 3, ())], 1, 1)
    assert len(made.output_index) == 5 and len(made.output_index.unique()) == 5
