import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harken.maths.preference_loss import bradley_terry, soft_bradley_terry

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "trl.json").read_text())
SCORE = st.floats(-10.0, 10.0)
PROBABILITY = st.floats(0.0, 1.0)


def one(value):
    return torch.tensor([value], dtype=torch.float64)


def golden(part, name):
    return torch.tensor(GOLDEN[part][name], dtype=torch.float64)


@given(SCORE, SCORE, st.floats(0.0, 3.0))
def test_bradley_terry_is_the_definition(chosen, rejected, margin):
    """P11 (S2-12, S0-23): -log of the probability that chosen wins by the margin."""
    expected = -math.log(1 / (1 + math.exp(-(chosen - rejected - margin))))
    assert bradley_terry(one(chosen), one(rejected), margin).item() == pytest.approx(expected, abs=1e-12)
    assert bradley_terry(one(chosen), one(rejected), one(margin)).item() == pytest.approx(expected, abs=1e-12)


def test_bradley_terry_agrees_with_trl():
    chosen, rejected, margin = (golden("bradley_terry", name) for name in ("chosen", "rejected", "margin"))
    torch.testing.assert_close(bradley_terry(chosen, rejected), golden("bradley_terry", "plain"))
    torch.testing.assert_close(
        bradley_terry(chosen, rejected, margin), golden("bradley_terry", "with_margin")
    )


def test_bradley_terry_far_out_is_linear_not_infinite():
    loss = bradley_terry(torch.tensor([-500.0, 500.0]), torch.tensor([500.0, -500.0]))
    assert loss.tolist() == [1000.0, 0.0]


def test_equal_rewards_cost_log_two():
    assert bradley_terry(one(3.0), one(3.0)).item() == pytest.approx(math.log(2))


def test_a_margin_asks_for_more():
    assert bradley_terry(one(1.0), one(0.0), 1.0).item() == pytest.approx(math.log(2))


@given(SCORE, SCORE, PROBABILITY)
def test_soft_labels_are_the_cross_entropy(chosen, rejected, label):
    """S2-23: binary cross-entropy against the probability that chosen is better."""
    p = 1 / (1 + math.exp(-(chosen - rejected)))
    expected = -label * math.log(p) - (1 - label) * math.log1p(-p) if 1e-9 < p < 1 - 1e-9 else None
    loss = soft_bradley_terry(one(chosen), one(rejected), one(label)).item()
    if expected is not None:
        assert loss == pytest.approx(expected, rel=1e-6, abs=1e-9)


@given(SCORE, SCORE)
def test_hard_labels_are_bradley_terry(chosen, rejected):
    """S2-23: label 1 is the plain loss, label 0 the plain loss of the swapped pair."""
    for label, (winner, loser) in ((1.0, (chosen, rejected)), (0.0, (rejected, chosen))):
        loss = soft_bradley_terry(one(chosen), one(rejected), one(label))
        torch.testing.assert_close(loss, bradley_terry(one(winner), one(loser)))


@pytest.mark.parametrize("label", [0.5, 0.7, 0.9])
def test_soft_label_loss_is_least_at_the_label(label):
    """S2-06: a tie (0.5) is best met by equal rewards."""
    best = math.log(label / (1 - label))
    gap = one(best).requires_grad_()
    soft_bradley_terry(gap, one(0.0), one(label)).sum().backward()
    assert gap.grad.item() == pytest.approx(0.0, abs=1e-12)
