"""Row order is a function of the step: complete, reshuffled each pass, the same after a restart."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harken.train.sampler import batch_indices, infinite_indices, num_steps


@given(rows=st.integers(1, 60), size=st.integers(1, 20), epochs=st.integers(1, 3))
def test_every_pass_visits_every_row_once(rows: int, size: int, epochs: int) -> None:
    """P36."""
    steps = num_steps(rows, size, epochs, None)
    seen = [row for step in range(steps) for row in batch_indices(step, rows, size, 7, "x")]
    assert sorted(seen) == sorted(list(range(rows)) * epochs)
    for epoch in range(epochs):
        assert sorted(seen[epoch * rows : (epoch + 1) * rows]) == list(range(rows))


def test_passes_differ_and_seeds_differ() -> None:
    first = [batch_indices(step, 40, 40, 7, "x")[:] for step in (0, 1)]
    assert first[0] != first[1]
    assert batch_indices(0, 40, 40, 8, "x") != first[0]


@given(rows=st.integers(1, 30), first=st.integers(0, 100), count=st.integers(0, 50))
def test_a_stream_can_be_entered_anywhere(rows: int, first: int, count: int) -> None:
    whole = infinite_indices(0, first + count, rows, 3, "prompts")
    assert infinite_indices(first, count, rows, 3, "prompts") == whole[first:]
    assert sorted(whole[:rows]) == list(range(min(rows, len(whole)))) or len(whole) < rows


def test_max_steps_limits() -> None:
    assert num_steps(100, 16, 2, None) == 14
    assert num_steps(100, 16, 2, 5) == 5
