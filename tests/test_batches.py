import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harken.batches import TokenBatch, collate, micro_batches, shift_right

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=40)


def test_rows_are_padded_on_the_right():
    batch = collate([[5, 6, 7], [8]], [[False, True, True], [True]], pad_token=9)
    assert batch.tokens.tolist() == [[5, 6, 7], [8, 9, 9]]
    assert batch.attention_mask.tolist() == [[True, True, True], [True, False, False]]
    assert batch.response_mask.tolist() == [[False, True, True], [True, False, False]]


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=8), min_size=1, max_size=6
    )
)
def test_collate_keeps_every_token_and_flag(rows):
    """Also when a real token is the pad token: what is real is told by length, not by id (P1)."""
    batch = collate([[t for t, _ in row] for row in rows], [[a for _, a in row] for row in rows], pad_token=0)
    for i, row in enumerate(rows):
        assert batch.tokens[i, batch.attention_mask[i]].tolist() == [t for t, _ in row]
        assert batch.response_mask[i, batch.attention_mask[i]].tolist() == [a for _, a in row]
        assert not batch.response_mask[i, ~batch.attention_mask[i]].any()
    assert batch.tokens.shape[1] == max(map(len, rows))


@pytest.mark.parametrize(
    ("sequences", "response_masks"),
    [([], []), ([[1, 2]], [[True]]), ([[1], [2]], [[True]])],
    ids=["none", "short", "rows"],
)
def test_collate_refuses_what_does_not_fit(sequences, response_masks):
    with pytest.raises(ValueError):
        collate(sequences, response_masks, pad_token=0)


def test_entry_t_describes_token_t():
    """P25: V and log π of token t are read from the state before it.

    The stand-in model says at position t the sum of tokens 0 … t: entry t must be the sum of those before t.
    """
    tokens = torch.tensor([[3.0, 1.0, 4.0, 1.0], [2.0, 7.0, 1.0, 8.0]])
    described = shift_right(tokens.cumsum(1))
    assert described.tolist() == [[0.0, 3.0, 4.0, 8.0], [0.0, 2.0, 9.0, 10.0]]


def test_shift_right_keeps_features_and_gradients():
    hidden = torch.randn(2, 5, 3, requires_grad=True)
    described = shift_right(hidden)
    assert torch.equal(described[:, 1:], hidden[:, :-1])
    assert torch.equal(described[:, 0], torch.zeros(2, 3))
    described.sum().backward()
    assert torch.equal(hidden.grad[:, :-1], torch.ones(2, 4, 3))
    assert torch.equal(hidden.grad[:, -1], torch.zeros(2, 3))


def test_selected_rows_are_padded_to_the_longest_of_them():
    batch = collate([[1, 2, 3, 4], [5], [6, 7]], [[True] * 4, [True], [False, True]], pad_token=0)
    some = batch.select([2, 1])
    assert some.tokens.tolist() == [[6, 7], [5, 0]]
    assert some.attention_mask.tolist() == [[True, True], [True, False]]
    assert some.response_mask.tolist() == [[False, True], [True, False]]


def test_a_batch_moves_whole():
    batch = collate([[1, 2]], [[False, True]], pad_token=0).to("meta")
    assert isinstance(batch, TokenBatch)
    assert {batch.tokens.device.type, batch.attention_mask.device.type, batch.response_mask.device.type} == {
        "meta"
    }


@given(LENGTHS, st.integers(1, 200))
def test_every_row_is_in_exactly_one_micro_batch(lengths, budget):
    """P31: no token is lost or counted twice."""
    groups = micro_batches(lengths, budget)
    assert sorted(row for group in groups for row in group) == list(range(len(lengths)))
    assert all(groups)


@given(LENGTHS, st.integers(1, 200))
def test_a_micro_batch_keeps_the_token_budget(lengths, budget):
    """Padding included; a row longer than the budget stands alone."""
    for group in micro_batches(lengths, budget):
        padded = len(group) * max(lengths[row] for row in group)
        assert padded <= budget or len(group) == 1


@given(LENGTHS, st.integers(1, 200))
def test_micro_batches_are_not_smaller_than_they_must_be(lengths, budget):
    """The longest row of the next group would not have fitted into the one before."""
    groups = micro_batches(lengths, budget)
    for group in groups[:-1]:
        assert (len(group) + 1) * max(lengths[row] for row in group) > budget


def test_similar_lengths_go_together():
    assert micro_batches([2, 30, 3, 29], 60) == [[1, 3], [2, 0]]
    assert micro_batches([], 10) == []
